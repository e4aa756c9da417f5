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

/// The object, as a manifest.
pub fn manifest() -> String {
    let mut yaml = format!(
        "kind: Policy\nname: {NAME}\nspec:\n  default_ingress: deny\n  default_egress: deny\n  rules:\n"
    );
    for direction in ["ingress", "egress"] {
        for number in 0..RULES - 1 {
            let rule = match number % 4 {
                0 => format!(
                    "action: allow, protocol: tcp, destination_ports: [{{first: {}}}]",
                    usize::from(SERVICE) + number
                ),
                1 => format!(
                    "action: deny, remote: {{prefix: 172.16.{number}.0/24, except: [172.16.{number}.128/25]}}"
                ),
                2 => format!(
                    "action: deny, protocol: udp, remote: {{prefix: 10.{}.0.0/16}}, \
                     destination_ports: [{{first: {}, last: {}}}]",
                    100 + number,
                    1000 * number,
                    1000 * number + 999
                ),
                _ => format!(
                    "action: allow, protocol: tcp, remote: {{prefix: 192.168.{number}.0/24}}, \
                     destination_ports: [{{first: 80}}, {{first: 443}}]"
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
    }
}
