use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::Peekable;
use std::sync::{Arc, LazyLock, OnceLock};

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

/// One encoded resource with the hash of its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    name: String,
    version: u64,
    body: Any,
}

impl Resource {
    /// Encodes a message under its xDS name.
    ///
    /// The version is a hash of the encoded bytes. Protobuf leaves the order of map entries open, so a
    /// message with a map field of several entries may hash differently each time it is encoded: whoever
    /// has such messages keeps the earlier `Resource` as long as the message is equal.
    pub fn new<M: Message + Name>(name: impl Into<String>, message: &M) -> Self {
        let body = Any {
            type_url: M::type_url(),
            value: message.encode_to_vec(),
        };
        Self::from_any(name, body)
    }

    /// Takes a message that is encoded already.
    pub fn from_any(name: impl Into<String>, body: Any) -> Self {
        let mut hasher = DefaultHasher::new();
        body.type_url.hash(&mut hasher);
        body.value.hash(&mut hasher);
        Self {
            name: name.into(),
            version: hasher.finish(),
            body,
        }
    }

    /// Its xDS name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash of its content.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The message with its type URL.
    pub fn body(&self) -> &Any {
        &self.body
    }
}

/// All resources of one type for one node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    by_name: Arc<ByName>,
}

#[derive(Debug, Default)]
struct ByName {
    all: BTreeMap<String, Arc<Resource>>,
    version: OnceLock<u64>,
}

impl ResourceSet {
    /// None at all.
    pub(crate) fn nothing() -> &'static Self {
        &NOTHING
    }

    /// Whether both are one and the same, not merely equal.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.by_name, &other.by_name)
    }

    /// Whether nobody else has it.
    pub fn is_only_here(&self) -> bool {
        Arc::strong_count(&self.by_name) == 1
    }

    /// How many resources.
    pub fn len(&self) -> usize {
        self.by_name.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.all.is_empty()
    }

    /// The resource of that name.
    pub fn find(&self, name: &str) -> Option<&Arc<Resource>> {
        self.by_name.all.get(name)
    }

    /// The resources, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_name.all.values()
    }

    /// A hash of all names and contents.
    pub fn version(&self) -> u64 {
        *self.by_name.version.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            for resource in self.iter() {
                (resource.name(), resource.version()).hash(&mut hasher);
            }
            hasher.finish()
        })
    }

    /// What another set has that is not the very same here, and what only this one has under its name.
    pub(crate) fn differences<'a>(
        &'a self,
        newer: &'a Self,
    ) -> impl Iterator<Item = Difference<'a>> {
        Differences {
            old: self.by_name.all.values().peekable(),
            new: newer.by_name.all.values().peekable(),
        }
    }
}

impl FromIterator<Arc<Resource>> for ResourceSet {
    /// Of two resources with one name, the later stays.
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(resources: I) -> Self {
        let by_name = resources
            .into_iter()
            .map(|resource| (resource.name.clone(), resource))
            .collect();
        Self {
            by_name: Arc::new(ByName {
                all: by_name,
                version: OnceLock::new(),
            }),
        }
    }
}

impl FromIterator<Resource> for ResourceSet {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        resources.into_iter().map(Arc::new).collect()
    }
}

/// What tells one set from an older one.
pub(crate) enum Difference<'a> {
    /// It is new, or another than before.
    News(&'a Arc<Resource>),
    /// There is none of its name any more.
    Gone(&'a Arc<Resource>),
}

struct Differences<I: Iterator> {
    old: Peekable<I>,
    new: Peekable<I>,
}

impl<'a, I: Iterator<Item = &'a Arc<Resource>>> Iterator for Differences<I> {
    type Item = Difference<'a>;

    /// Both are sorted by name. Names are looked at only where the resources are not the very same.
    fn next(&mut self) -> Option<Difference<'a>> {
        loop {
            let (old, new) = (self.old.peek(), self.new.peek());
            match (old, new) {
                (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {
                    self.old.next();
                    self.new.next();
                }
                (Some(old), Some(new)) if old.name() == new.name() => {
                    self.old.next();
                    return self.new.next().map(Difference::News);
                }
                (Some(old), Some(new)) if old.name() < new.name() => {
                    return self.old.next().map(Difference::Gone);
                }
                (Some(_), None) => return self.old.next().map(Difference::Gone),
                (_, Some(_)) => return self.new.next().map(Difference::News),
                (None, None) => return None,
            }
        }
    }
}

/// Everything that one node may ask for: consistent over all types.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    types: BTreeMap<String, ResourceSet>,
}

static NOTHING: LazyLock<ResourceSet> = LazyLock::new(ResourceSet::default);

impl Snapshot {
    /// Replaces the resources of one type.
    #[must_use]
    pub fn with(mut self, type_url: impl Into<String>, resources: ResourceSet) -> Self {
        self.types.insert(type_url.into(), resources);
        self
    }

    /// The resources of one type; empty when there are none.
    pub fn of_type(&self, type_url: &str) -> &ResourceSet {
        self.types.get(type_url).unwrap_or(&NOTHING)
    }

    /// The types that it has resources for, with them.
    pub fn types(&self) -> impl Iterator<Item = (&str, &ResourceSet)> {
        self.types
            .iter()
            .map(|(type_url, set)| (type_url.as_str(), set))
    }
}
