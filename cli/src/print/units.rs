//! Numbers as people read them: `1.2 M`, `3.1 kB`, `9.6 Gbit/s`.

/// A count; below a thousand as it is.
pub fn count(number: u64) -> String {
    scaled(number as f64, "")
}

/// A count where nothing is worth a dash.
pub fn count_or_dash(number: u64) -> String {
    if number == 0 {
        "-".to_owned()
    } else {
        count(number)
    }
}

/// Events a second.
pub fn rate(per_second: f64) -> String {
    scaled(per_second, "")
}

/// Bytes, in powers of a thousand as networks count.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, "B")
}

/// Bits a second, from bytes a second.
pub fn bit_rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second * 8.0, "bit/s")
}

/// A part of the whole, in per cent.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        "-".to_owned()
    } else {
        format!("{:.0} %", part as f64 * 100.0 / whole as f64)
    }
}

/// One number over another, with a digit behind the point.
pub fn ratio(number: u64, over: u64) -> String {
    if over == 0 {
        "-".to_owned()
    } else {
        format!("{:.1}", number as f64 / over as f64)
    }
}

/// Seconds, minutes and hours.
pub fn duration(seconds: u32) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Every digit, in groups of three, where the digits matter.
pub fn exact(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn scaled(number: f64, unit: &str) -> String {
    let mut value = number;
    let mut prefix = "";
    // 999.95 would be shown as 1000.0: that is the next prefix's 1.0.
    for next in ["k", "M", "G", "T", "P", "E"] {
        if value < if prefix.is_empty() { 999.5 } else { 999.95 } {
            break;
        }
        value /= 1000.0;
        prefix = next;
    }
    match (prefix, unit) {
        ("", "") => format!("{value:.0}"),
        ("", unit) => format!("{value:.0} {unit}"),
        (prefix, unit) => format!("{value:.1} {prefix}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_units_from_a_thousand_on() {
        let shown: Vec<String> = [0, 12, 999, 1000, 3149, 999_949, 999_950, 1_200_000, u64::MAX]
            .map(count)
            .to_vec();
        assert_eq!(
            shown,
            [
                "0", "12", "999", "1.0 k", "3.1 k", "999.9 k", "1.0 M", "1.2 M", "18.4 E"
            ]
        );
        assert_eq!(count_or_dash(0), "-");
        assert_eq!(bytes(64), "64 B");
        assert_eq!(bytes(1_540), "1.5 kB");
        assert_eq!(bit_rate(1.25e9), "10.0 Gbit/s");
        assert_eq!(rate(0.4), "0");
        assert_eq!(rate(999.7), "1.0 k");
    }

    #[test]
    fn shares_of_nothing_are_a_dash() {
        assert_eq!(share(1, 0), "-");
        assert_eq!(share(1, 3), "33 %");
        assert_eq!(ratio(1, 0), "-");
        assert_eq!(ratio(64, 10), "6.4");
    }

    #[test]
    fn exact_numbers_are_grouped() {
        let shown = [0, 999, 1000, 1_234_567].map(exact);
        assert_eq!(shown, ["0", "999", "1 000", "1 234 567"]);
    }

    #[test]
    fn durations_are_in_words() {
        assert_eq!(
            [0, 59, 60, 3725].map(duration),
            ["0 s", "59 s", "1 min 0 s", "1 h 2 min"]
        );
    }
}
