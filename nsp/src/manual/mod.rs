//! What does not belong to one item.

pub mod compatibility {
    #![doc = include_str!("compatibility.md")]
}
