//! What a segment consists of: the names and the order of its chunks.

/// What every segment begins and ends with.
pub(crate) const MAGIC: [u8; 8] = *b"PERISEG\n";

/// The version of the format that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 1;

/// The last bytes of a segment: the footer's length and checksum, the version, [`MAGIC`].
pub(crate) const TAIL: usize = 4 + 4 + 4 + MAGIC.len();

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];
            pub(crate) const COUNT: usize = Self::ALL.len();

            /// The name in errors.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

numbered! {
    /// The columns that every row group has, in the order of their chunks.
    Core {
        /// 16 bytes for each trace.
        TraceId = "trace ids",
        /// The step from the start of the trace before.
        TraceStart = "trace starts",
        /// How many of the group's spans are the trace's.
        TraceSpans = "trace lengths",
        /// For each trace whether its spans arrived in another order than expected.
        Arrival = "orders of arrival",
        /// For each span of such a trace its place in the order of arrival.
        Rank = "places in the order of arrival",
        /// 8 bytes for each span.
        SpanId = "span ids",
        /// How far up the parent is; see `parents`.
        Parent = "parents",
        FarParent = "far parents",
        RawParent = "parents elsewhere",
        /// The distance from the trace's start.
        Start = "starts",
        Duration = "durations",
        KindStatus = "kinds and statuses",
        Name = "names",
        Resource = "resources",
        Scope = "scopes",
        Flags = "flags",
        TraceState = "trace states",
        Message = "status messages",
        DroppedAttributes = "counts of dropped attributes",
        DroppedEvents = "counts of dropped events",
        DroppedLinks = "counts of dropped links",
        Shape = "attribute lists",
        /// How many events each span has.
        Events = "counts of events",
        Links = "counts of links",
        /// The distance from the span's start.
        EventTime = "event times",
        EventName = "event names",
        EventDropped = "counts of attributes dropped from events",
        EventShape = "attribute lists of events",
        LinkTrace = "linked trace ids",
        LinkSpan = "linked span ids",
        LinkState = "trace states of links",
        LinkFlags = "flags of links",
        LinkDropped = "counts of attributes dropped from links",
        LinkShape = "attribute lists of links",
    }
}

numbered! {
    /// The parts that are there once, in the order of their places in the footer.
    Section {
        /// Attribute columns and shapes.
        Schema = "the schema",
        /// Dictionaries.
        Names = "the names",
        EventNames = "the names of events",
        Messages = "the status messages",
        TraceStates = "the trace states",
        Resources = "the resources",
        Scopes = "the scopes",
        Index = "the trace index",
        Filter = "the trace filter",
        /// The names of services and their operations.
        Operations = "the operations",
        Red = "the series of rates, errors and durations",
        Calls = "the calls between services",
        /// What the spans of each row group are like.
        Zones = "the zones",
        /// Which texts the columns without a dictionary have.
        Texts = "the filters of texts",
    }
}

impl Section {
    /// Whether segments may lack it.
    pub(crate) const fn is_optional(self) -> bool {
        matches!(self, Self::Zones | Self::Texts)
    }
}
