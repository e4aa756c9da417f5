//! The policy that benchmarks judge by: 50 rules a direction, as a tenant's web servers might have them. The generated
//! traffic is let through by the last of them; none of the others matches it, and whoever reads them one by one reads
//! them all.

use std::fmt::Write;

/// Rules a direction.
pub const RULES: usize = 50;
/// A TCP port that its first rule lets through.
pub const SERVICE: u16 = 8000;
/// Its name.
pub const NAME: &str = "fifty-rules";

/// The object with fifty rules, as a manifest.
pub fn manifest() -> String {
    of(RULES)
}

/// The object with so many rules a direction: the others are more of the same kinds.
pub fn of(rules: usize) -> String {
    let mut yaml = format!(
        "kind: Policy\nname: {NAME}\nspec:\n  default_ingress: deny\n  default_egress: deny\n  rules:\n"
    );
    for direction in ["ingress", "egress"] {
        for number in 0..rules.saturating_sub(1) {
            let rule = match number % 4 {
                0 => format!(
                    "action: allow, protocol: tcp, destination_ports: [{{first: {}}}]",
                    usize::from(SERVICE) + number
                ),
                1 => format!(
                    "action: deny, remote: {{prefix: 172.{0}.{1}.0/24, except: [172.{0}.{1}.128/25]}}",
                    16 + number / 256,
                    number % 256
                ),
                2 => format!(
                    "action: deny, protocol: udp, remote: {{prefix: 10.{}.0.0/16}}, \
                     destination_ports: [{{first: {}, last: {}}}]",
                    100 + number % 100,
                    1000 * number % 64_000,
                    1000 * number % 64_000 + 999
                ),
                _ => format!(
                    "action: allow, protocol: tcp, remote: {{prefix: 192.{}.{}.0/24}}, \
                     destination_ports: [{{first: 80}}, {{first: 443}}]",
                    168 + number / 256,
                    number % 256
                ),
            };
            let _ = writeln!(yaml, "    - {{direction: {direction}, {rule}}}");
        }
        let _ = writeln!(
            yaml,
            "    - {{name: traffic-{direction}, direction: {direction}, action: allow, protocol: udp, \
             remote: {{prefix: 10.0.0.0/8}}}}"
        );
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_an_object_of_the_api_with_fifty_rules_a_direction() {
        let objects = weft_cli::manifest::load_text("benchmark", &manifest()).unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(manifest().matches("- {").count(), 2 * RULES);
        assert_eq!(
            weft_cli::manifest::load_text("benchmark", &of(1000))
                .unwrap()
                .len(),
            1
        );
        assert_eq!(of(1000).matches("- {").count(), 2000);
    }
}
