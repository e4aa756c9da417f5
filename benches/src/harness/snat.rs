//! A way out of a tenant's VRF through another, and the pool that stands for the tenant there.

/// The VRF through which tenants' packets leave.
pub const OUTSIDE: &str = "public";

/// Routes from a VRF into [`OUTSIDE`], without translation: as a manifest.
pub fn leak(from: &str, prefix: &str) -> String {
    format!("kind: Route\nname: all\nspec: {{vrf: {from}, prefix: {prefix}, next_hop: {{vrf: {OUTSIDE}}}}}\n")
}

/// The pool for what comes from a VRF by such routes: as a manifest.
pub fn pool(from: &str) -> String {
    format!(
        "kind: NatPool\nname: out\nspec: {{vrf: {OUTSIDE}, addresses: [203.0.113.64/28], inside_vrf: {from}, \
         sources: [10.0.0.0/8]}}\n"
    )
}
