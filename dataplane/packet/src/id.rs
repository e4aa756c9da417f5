//! Identifiers that are carried in headers, each of which cannot hold a value that its field cannot.

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    str::FromStr,
};

use thiserror::Error;

/// A number that its field cannot hold or that a standard reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} {value} is out of range: {legal}")]
pub struct OutOfRange {
    /// Which identifier.
    pub what: &'static str,
    /// What was asked for.
    pub value: u32,
    /// What is legal, and who says so.
    pub legal: &'static str,
}

/// A text that is no such identifier.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAnIdentifier {
    /// Not even a number of 32 bits.
    #[error("`{text}` is no {what}: write a decimal number; {legal}")]
    NotANumber {
        /// Which identifier.
        what: &'static str,
        /// What was written.
        text: String,
        /// What is legal, and who says so.
        legal: &'static str,
    },
    /// A number that is not legal.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

macro_rules! identifier {
    (
        $(#[$doc:meta])*
        $name:ident($inner:ty), $what:literal, $minimum:literal ..= $maximum:literal, $legal:literal,
        $get:ident() -> $raw:ty
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The smallest.
            pub const MIN: $name = match $name::new($minimum) {
                Ok(value) => value,
                Err(_) => panic!("evaluated by the compiler alone"),
            };
            /// The largest.
            pub const MAX: $name = match $name::new($maximum) {
                Ok(value) => value,
                Err(_) => panic!("evaluated by the compiler alone"),
            };

            /// Checks the value.
            #[inline]
            pub const fn new(value: u32) -> Result<Self, OutOfRange> {
                if value < $minimum || value > $maximum {
                    return Err(OutOfRange { what: $what, value, legal: $legal });
                }
                match <$inner>::new(value as $raw) {
                    Some(value) => Ok($name(value)),
                    None => Err(OutOfRange { what: $what, value, legal: $legal }),
                }
            }

            /// The number.
            #[inline]
            pub const fn get(self) -> $raw {
                self.0.get()
            }
        }

        impl TryFrom<u32> for $name {
            type Error = OutOfRange;

            #[inline]
            fn try_from(value: u32) -> Result<Self, OutOfRange> {
                $name::new(value)
            }
        }

        impl From<$name> for u32 {
            #[inline]
            fn from(value: $name) -> u32 {
                u32::from(value.get())
            }
        }

        impl FromStr for $name {
            type Err = NotAnIdentifier;

            fn from_str(text: &str) -> Result<Self, NotAnIdentifier> {
                let value = text.parse::<u32>().map_err(|_| NotAnIdentifier::NotANumber {
                    what: $what,
                    text: text.to_owned(),
                    legal: $legal,
                })?;
                Ok($name::new(value)?)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.get(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.get())
            }
        }
    };
}

identifier! {
    /// A VLAN, 12 bits; 0 marks a frame that carries a priority only and 4095 is reserved (IEEE 802.1Q-2022, table 9-2).
    VlanId(NonZeroU16), "VLAN", 1 ..= 4094,
    "legal are 1 to 4094 (IEEE 802.1Q reserves 0 and 4095)",
    get() -> u16
}

identifier! {
    /// A VXLAN network identifier: 24 bits, here never 0 (RFC 7348, section 5).
    Vni(NonZeroU32), "VNI", 1 ..= 16_777_215,
    "legal are 1 to 16777215 (24 bits, RFC 7348)",
    get() -> u32
}

identifier! {
    /// An MPLS label that may name something: 20 bits, without the special-purpose labels 0 to 15 (RFC 3032,
    /// section 2.1; RFC 7274).
    Label(NonZeroU32), "MPLS label", 16 ..= 1_048_575,
    "legal are 16 to 1048575 (20 bits; RFC 3032 reserves 0 to 15)",
    get() -> u32
}

impl TryFrom<u16> for VlanId {
    type Error = OutOfRange;

    #[inline]
    fn try_from(value: u16) -> Result<Self, OutOfRange> {
        VlanId::new(u32::from(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edges_are_accepted_and_their_neighbours_refused() {
        assert!(VlanId::new(0).is_err() && VlanId::new(4095).is_err() && VlanId::new(65_537).is_err());
        assert_eq!((VlanId::MIN.get(), VlanId::MAX.get()), (1, 4094));
        assert!(Vni::new(0).is_err() && Vni::new(1 << 24).is_err());
        assert_eq!((Vni::MIN.get(), Vni::MAX.get()), (1, (1 << 24) - 1));
        assert!(Label::new(15).is_err() && Label::new(1 << 20).is_err());
        assert_eq!((Label::MIN.get(), Label::MAX.get()), (16, (1 << 20) - 1));
    }

    #[test]
    fn a_refusal_names_the_value_and_what_is_legal() {
        assert_eq!(
            VlanId::new(4095).unwrap_err().to_string(),
            "VLAN 4095 is out of range: legal are 1 to 4094 (IEEE 802.1Q reserves 0 and 4095)"
        );
        assert_eq!(
            "16777216".parse::<Vni>().unwrap_err().to_string(),
            "VNI 16777216 is out of range: legal are 1 to 16777215 (24 bits, RFC 7348)"
        );
        assert_eq!(
            "x1".parse::<Label>().unwrap_err().to_string(),
            "`x1` is no MPLS label: write a decimal number; legal are 16 to 1048575 (20 bits; RFC 3032 reserves 0 to 15)"
        );
    }

    #[test]
    fn an_identifier_takes_no_room_for_absence() {
        assert_eq!(size_of::<Option<Vni>>(), 4);
        assert_eq!(size_of::<Option<VlanId>>(), 2);
    }

    proptest! {
        #[test]
        fn an_identifier_reads_back_what_it_shows(value: u32) {
            let vni = Vni::new(value & 0xff_ffff | 1).unwrap();
            prop_assert_eq!(vni.to_string().parse::<Vni>().unwrap(), vni);
            prop_assert_eq!(Vni::new(value).is_ok(), (1..1 << 24).contains(&value));
            prop_assert_eq!(Label::new(value).is_ok(), (16..1 << 20).contains(&value));
            prop_assert_eq!(VlanId::new(value).is_ok(), (1..4095).contains(&value));
            prop_assert_eq!(VlanId::try_from(value as u16).is_ok(), (1..4095).contains(&(value as u16)));
        }
    }
}
