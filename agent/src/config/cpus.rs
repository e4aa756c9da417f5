//! Which CPUs weftd may use, and which of them its workers get.

/// The last `count` of the CPUs that this process may use: the first ones serve most interrupts and everybody else.
pub fn choose(count: u16) -> Result<Vec<u16>, String> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status cannot be read ({error}): list the CPUs instead"))?;
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .and_then(|list| parse_list(list.trim()))
        .ok_or("the CPUs that may be used are unknown: list the CPUs instead")?;
    pick(&allowed, count)
}

fn pick(allowed: &[u16], count: u16) -> Result<Vec<u16>, String> {
    let count = usize::from(count);
    if count == 0 {
        return Err("at least one worker is needed".into());
    }
    match allowed.len().checked_sub(count) {
        Some(first) => Ok(allowed[first..].to_vec()),
        None => Err(format!(
            "this process may use {} CPUs only: lower it, or the cgroup's limit is too low",
            allowed.len()
        )),
    }
}

/// A list as the kernel writes it: `0-3,8`.
fn parse_list(list: &str) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_get_the_last_cpus() {
        assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(pick(&[0, 1, 2, 3, 8], 2), Ok(vec![3, 8]));
        assert_eq!(pick(&[5], 1), Ok(vec![5]));
        assert!(pick(&[0, 1], 3).unwrap_err().contains("2 CPUs only"));
        assert!(pick(&[0, 1], 0).is_err());
    }

    #[test]
    fn this_process_has_a_cpu() {
        assert_eq!(choose(1).unwrap().len(), 1);
    }
}
