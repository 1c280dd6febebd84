//! What does not belong to one item.

pub mod compatibility {
    #![doc = include_str!("compatibility.md")]
}

pub mod moving_from_noservice {
    #![doc = include_str!("moving_from_noservice.md")]
}

pub mod security {
    #![doc = include_str!("security.md")]
}

pub mod wire {
    #![doc = include_str!("wire.md")]
}
