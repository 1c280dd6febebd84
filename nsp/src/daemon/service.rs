//! A service: its functions, and who hears of its entities.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::call::{Call, CallKind, Target};
use super::emit::Emitter;
use super::fail::Fail;
use super::guard::Guard;
use super::handler::{Endpoint, Function, FunctionEndpoint, Hook, HookEndpoint};
use super::manifest::{FunctionManifest, Manifest, Shape};
use super::outbox::Overflow;
use super::owner::{OwnerOf, Owners, OwnersOf};
use crate::authority::Action;
use crate::machine::check::Demand;
use crate::machine::numbered::NameMap;
use crate::proto::{Data, RawJson};

/// What a daemon offers under one name.
///
/// ```
/// use nsp::daemon::{Entity, Fail, Json, Service};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Hello { d: String }
/// #[derive(Serialize)]
/// struct Reply { r: String }
///
/// let chat = Service::new("Chat")
///     .on_connect(async |entity: Entity| -> Result<(), Fail> {
///         entity.join("everybody")?;
///         Ok(())
///     })
///     .function("Hello", async |Json(hello): Json<Hello>| -> Result<Reply, Fail> {
///         if hello.d.is_empty() {
///             return Err(Fail::bad_argument("say something"));
///         }
///         Ok(Reply { r: format!("you said: {}", hello.d) })
///     })
///     .secure_function("Reset", async || "done");
/// # let _ = chat;
/// ```
///
/// Functions of one entity run side by side, in whatever order they end. What it sends as data is handled in order, one after the other. A function
/// that panics, or is dropped, is answered with `internal` and an id; one that takes longer than its time, with `timeout`.
///
/// An async closure that captures variables is no handler, because its future would borrow from it: what is shared
/// is asked for as [`State`](super::State).
#[must_use = "a service does nothing until a daemon has it"]
pub struct Service<S = ()> {
    state: S,
    runtime: Runtime,
    on_start: Vec<Box<dyn FnOnce(Emitter) + Send>>,
}

/// A service with the type of its state forgotten.
pub(crate) struct Runtime {
    pub(crate) name: Box<str>,
    functions: NameMap<Box<str>, Offered>,
    blob_functions: NameMap<Box<str>, Offered>,
    /// Who tells whose the things are that a function is about.
    owners: HashMap<Box<str>, Box<dyn Owners>>,
    pub(crate) on_connect: Arc<dyn Endpoint>,
    pub(crate) on_data: Arc<dyn Endpoint>,
    pub(crate) on_close: Option<Arc<dyn Endpoint>>,
    pub(crate) overflow: Overflow,
    pub(crate) manifest: Manifest,
    strict: bool,
}

/// One function.
struct Offered {
    endpoint: Arc<dyn Endpoint>,
    secure: bool,
    /// What its argument is to look like, where that is checked.
    shape: Option<Shape>,
}

/// What a daemon takes over of a service.
pub(crate) struct Ready {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) on_start: Vec<Box<dyn FnOnce(Emitter) + Send>>,
    /// A function that the manifest says is secure, and that is not.
    pub(crate) not_secure: Option<String>,
    /// A function whose owners are told, and that is not offered.
    pub(crate) not_offered: Option<String>,
}

impl Service<()> {
    /// A service without state.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_state(name, ())
    }
}

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// A service whose handlers can ask for [`State<S>`](super::State). It is cloned for each of them, and once more for each call that asks for it; put
    /// what is large or shared into an [`Arc`].
    pub fn with_state(name: impl Into<String>, state: S) -> Self {
        let name = name.into();
        let nothing = async || ();
        let runtime = Runtime {
            functions: NameMap::default(),
            blob_functions: NameMap::default(),
            owners: HashMap::new(),
            on_connect: Arc::new(HookEndpoint::<_, _, ()>::new(nothing, (), Guard::on(Action::Open))),
            on_data: Arc::new(HookEndpoint::<_, _, ()>::new(nothing, (), Guard::on(Action::Send))),
            on_close: None,
            overflow: Overflow::default(),
            manifest: Manifest::new(&*name),
            strict: false,
            name: name.into(),
        };
        Self { state, runtime, on_start: Vec::new() }
    }

    /// Offers a function. One of the same name is replaced.
    pub fn function<Args: 'static>(self, name: &str, handler: impl Function<S, Args>) -> Self {
        self.offer(name, handler, Guard::on(Action::Call), false)
    }

    /// Offers a function to superusers alone, and only with a valid token: the others are told `AuthFailed`.
    pub fn secure_function<Args: 'static>(self, name: &str, handler: impl Function<S, Args>) -> Self {
        self.offer(name, handler, Guard::on(Action::Call).demanding(Demand::Superuser), true)
    }

    /// Offers a function that is called with a blob. One of the same name is replaced; a function without blob may have the same.
    pub fn blob_function<Args: 'static>(self, name: &str, handler: impl Function<S, Args>) -> Self {
        self.offer_blob(name, handler, Guard::on(Action::Call), false)
    }

    /// Offers a function that is called with a blob to superusers alone, as [`secure_function`](Self::secure_function).
    pub fn secure_blob_function<Args: 'static>(self, name: &str, handler: impl Function<S, Args>) -> Self {
        self.offer_blob(name, handler, Guard::on(Action::Call).demanding(Demand::Superuser), true)
    }

    /// Tells whose the thing is that a call of a function is about, for a policy that grants somebody [their own](crate::authority::Access::owner).
    ///
    /// It takes what the function takes, and gives the user's name; `None` is nobody's. It is asked before the function runs, and only where it makes a
    /// difference: not where the caller may with any, or with none, or is nobody. An error is the answer to the call.
    ///
    /// ```
    /// use nsp::daemon::{Fail, Json, Service, State};
    /// # #[derive(Clone)] struct Notes;
    /// # impl Notes {
    /// #     async fn owner(&self, _: u64) -> Option<String> { None }
    /// #     async fn remove(&self, _: u64) {}
    /// # }
    /// let notes = Service::with_state("Notes", Notes)
    ///     .function("remove", async |Json(id): Json<u64>, State(notes): State<Notes>| notes.remove(id).await)
    ///     .owner_of("remove", async |Json(id): Json<u64>, State(notes): State<Notes>| notes.owner(id).await);
    /// # let _ = notes;
    /// ```
    ///
    /// Between the question and the function the thing may change hands: a function for which that matters looks again. One that is not offered
    /// cannot have owners: the daemon does not begin.
    pub fn owner_of<Args: 'static>(mut self, function: &str, owner: impl OwnerOf<S, Args>) -> Self {
        let owners = Box::new(OwnersOf::new(owner, self.state.clone()));
        self.runtime.owners.insert(function.into(), owners);
        self
    }

    /// Looks at each entity that comes, before anything else of it is served. An error sends it away.
    pub fn on_connect<Args: 'static>(mut self, handler: impl Hook<S, Args>) -> Self {
        let guard = Guard::on(Action::Open);
        self.runtime.on_connect = Arc::new(HookEndpoint::new(handler, self.state.clone(), guard));
        self
    }

    /// Hears what entities send as data. An error is logged, for the client does not wait for anything.
    pub fn on_data<Args: 'static>(mut self, handler: impl Hook<S, Args>) -> Self {
        let guard = Guard::on(Action::Send);
        self.runtime.on_data = Arc::new(HookEndpoint::new(handler, self.state.clone(), guard));
        self
    }

    /// Says goodbye to each entity that was let in: once, whatever ended it. It is in no group and no audience any more;
    /// [`groups`](super::Entity::groups) says in which it was.
    pub fn on_close<Args: 'static>(mut self, handler: impl Hook<S, Args>) -> Self {
        self.runtime.on_close = Some(Arc::new(HookEndpoint::new(handler, self.state.clone(), Guard::OPEN)));
        self
    }

    /// Is told the way to the service's entities when the daemon begins, before the first of them comes: for what a service sends by itself.
    pub fn on_start(mut self, start: impl FnOnce(Emitter) + Send + 'static) -> Self {
        self.on_start.push(Box::new(start));
        self
    }

    /// What happens to data and events for those who are too slow: [`Overflow::Wait`] unless this says otherwise.
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.runtime.overflow = overflow;
        self
    }

    /// Describes the service: for who asks the daemon what there is. The name remains the service's, and functions that the manifest does not
    /// know are added to it. A function that it calls secure has to be one.
    pub fn manifest(mut self, manifest: Manifest) -> Self {
        self.runtime.manifest = manifest;
        self
    }

    /// Checks the argument of each function against the `call` of its manifest, before the function sees it. A wrong one is
    /// answered with `bad_argument` and the name of the field.
    pub const fn strict(mut self) -> Self {
        self.runtime.strict = true;
        self
    }

    fn offer<Args: 'static>(
        mut self,
        name: &str,
        handler: impl Function<S, Args>,
        guard: Guard,
        secure: bool,
    ) -> Self {
        let offered = self.offered(name, handler, guard, secure);
        self.runtime.functions.insert(name.into(), offered);
        self
    }

    fn offer_blob<Args: 'static>(
        mut self,
        name: &str,
        handler: impl Function<S, Args>,
        guard: Guard,
        secure: bool,
    ) -> Self {
        let offered = self.offered(name, handler, guard, secure);
        self.runtime.blob_functions.insert(name.into(), offered);
        self
    }

    fn offered<Args: 'static>(
        &self,
        name: &str,
        handler: impl Function<S, Args>,
        guard: Guard,
        secure: bool,
    ) -> Offered {
        let endpoint = Arc::new(FunctionEndpoint::new(name, handler, self.state.clone(), guard));
        Offered { endpoint, secure, shape: None }
    }

    /// What a daemon takes over: the manifest knows all functions, and what is to be checked is there to be checked against.
    pub(crate) fn ready(self) -> Ready {
        let mut runtime = self.runtime;
        runtime.manifest.name = runtime.name.to_string();
        let mut not_secure = None;
        let manifest = &mut runtime.manifest;
        for (offered, described) in [
            (&mut runtime.functions, &mut manifest.functions),
            (&mut runtime.blob_functions, &mut manifest.blob_functions),
        ] {
            described.retain(|name, _| {
                let is_offered = offered.contains_key(&**name);
                if !is_offered {
                    tracing::warn!(service = &*runtime.name, function = %name.escape_debug(), "described, but not offered");
                }
                is_offered
            });
            for (name, offered) in offered {
                let described = described.entry(name.to_string()).or_insert_with(FunctionManifest::default);
                if described.secure && !offered.secure {
                    not_secure = Some(name.to_string());
                }
                described.secure = offered.secure;
                if runtime.strict {
                    offered.shape = described.call.as_ref().map(Shape::of);
                }
            }
        }
        let is_offered =
            |name: &str| runtime.functions.contains_key(name) || runtime.blob_functions.contains_key(name);
        let not_offered = runtime.owners.keys().find(|name| !is_offered(name)).map(ToString::to_string);
        Ready { runtime: Arc::new(runtime), on_start: self.on_start, not_secure, not_offered }
    }
}

impl Runtime {
    /// The function that a call is for.
    pub(crate) fn find(&self, kind: CallKind, name: &str) -> Option<&Arc<dyn Endpoint>> {
        self.offered(kind, name).map(|offered| &offered.endpoint)
    }

    /// The function of that name, if its argument is nobody's business but its own.
    #[inline]
    pub(crate) fn find_here(&self, name: &str) -> Option<&Arc<dyn Endpoint>> {
        self.functions.get(name).filter(|offered| offered.shape.is_none()).map(|offered| &offered.endpoint)
    }

    /// Who tells whose the thing is that a call is about.
    pub(crate) fn owners(&self, target: Target<'_>) -> Option<&dyn Owners> {
        match target.kind {
            _ if self.owners.is_empty() => None,
            CallKind::Function | CallKind::BlobFunction => {
                self.owners.get(target.name).map(|owners| &**owners)
            }
            _ => None,
        }
    }

    fn offered(&self, kind: CallKind, name: &str) -> Option<&Offered> {
        match kind {
            CallKind::BlobFunction => self.blob_functions.get(name),
            _ => self.functions.get(name),
        }
    }

    /// Whether the argument is what the manifest says, where that is to be looked at. For a blob function it is what is said about the blob.
    pub(crate) fn check_shape(&self, call: &Call) -> Result<(), Fail> {
        if !self.strict || !matches!(call.kind, CallKind::Function | CallKind::BlobFunction) {
            return Ok(());
        }
        let Some(shape) = self.offered(call.kind, &call.name).and_then(|offered| offered.shape.as_ref())
        else {
            return Ok(());
        };
        let json = match (call.kind, &call.data) {
            (CallKind::BlobFunction, _) => call.meta.clone().unwrap_or(RawJson::NULL),
            (_, Data::Json(json)) => json.clone(),
            (_, Data::None) => RawJson::NULL,
            (_, Data::Blob(_)) => return Err(Fail::bad_argument("this takes JSON, and a blob was sent")),
        };
        shape.check(&json).map_err(|mismatch| Fail::bad_argument(mismatch.to_string()))
    }
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.runtime, f)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("functions", &self.functions.keys())
            .field("blob_functions", &self.blob_functions.keys())
            .finish_non_exhaustive()
    }
}
