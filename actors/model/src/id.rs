//! The ids of services and tasks; those of nodes and clusters are `wire`'s, because transport knows them too.

essaim_wire::id! {
    /// A service, from its creation until it is removed.
    ServiceId
}

essaim_wire::id! {
    /// One attempt to fill a slot of a service.
    TaskId
}
