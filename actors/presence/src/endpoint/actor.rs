//! The endpoint's actor renews the node's certificate.
//!
//! Parent: the node's root. Children: none.
//! Hears: `Renew` (the role changed), `Wake`, and `Answered` (the answer of the signer or of the managers). Says:
//! nothing; it presents the new certificate through the endpoint.
//! Dies: of no expected fault; after a refusal, or when the disk does not store the signed certificate, the actor tries
//! again. Sessions survive its death, and the restarted actor checks the certificate first.

use super::core::{Effect, Input, Renewal, Wake};
use super::{Endpoint, JoinError};
use essaim_system::journal::RecordKind;
use essaim_system::{Scope, Timer};
use essaim_transport::{EnrolReply, Identity, PeerIdentity, Refused, SigningRequest};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;

/// Messages to the endpoint's actor.
#[derive(RactorMessage)]
pub(crate) enum EndpointMsg {
    /// The wanted role changed: check at once whether the certificate says it.
    Renew,
    /// A wait that the renewal core asked for has elapsed.
    Wake(Wake),
    /// A signing request was answered with a certificate or a refusal.
    Answered(Result<EnrolReply, Refused>),
}

/// The actor that renews the node's certificate.
#[derive(Debug)]
pub(crate) struct EndpointActor;

/// State of [`EndpointActor`].
pub(crate) struct State {
    scope: Scope,
    endpoint: Endpoint,
    core: Renewal,
    effects: Vec<Effect>,
    timer: Timer,
}

impl Actor for EndpointActor {
    type Msg = EndpointMsg;
    type State = State;
    type Arguments = (Scope, Endpoint);

    async fn pre_start(
        &self,
        myself: ActorRef<EndpointMsg>,
        (scope, endpoint): (Scope, Endpoint),
    ) -> Result<State, ActorProcessingErr> {
        let says = endpoint.shared.identity.borrow().says().clone();
        let core = Renewal::new(says, scope.env.seed.draw_number());
        let mut state = State { scope, endpoint, core, effects: Vec::new(), timer: Timer::default() };
        let wanted = state.endpoint.shared.broker.wanted();
        state.decide(&myself, Input::Look { wanted });
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<EndpointMsg>,
        message: EndpointMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let input = match message {
            EndpointMsg::Renew => Input::Look { wanted: state.endpoint.shared.broker.wanted() },
            EndpointMsg::Wake(wake) => Input::Elapsed(wake),
            EndpointMsg::Answered(answer) => state.take(answer),
        };
        state.decide(&myself, input);
        Ok(())
    }
}

impl State {
    fn decide(&mut self, myself: &ActorRef<EndpointMsg>, input: Input) {
        self.core.handle(self.scope.utc(), input, &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Ask => ask(self.endpoint.clone(), myself.clone()),
                Effect::WakeAfter(after, wake) => {
                    self.timer.arm(myself, after, move || EndpointMsg::Wake(wake));
                }
            }
        }
    }

    /// Presents the certificate of a signing answer, and turns the answer into an input for the renewal core.
    fn take(&mut self, answer: Result<EnrolReply, Refused>) -> Input {
        let shown = match answer {
            Ok(reply) => self.show(reply),
            Err(refused) => Err(refused.to_string()),
        };
        match shown {
            Ok(says) => {
                let hours = says.not_after.saturating_since(self.scope.utc()).as_secs() / 3_600;
                self.scope.record(RecordKind::Trust, format!("has a new certificate as {}, for {hours} h", says.role));
                Input::Renewed(says)
            }
            Err(why) => {
                self.scope.record(RecordKind::Trust, format!("got no new certificate: {why}"));
                Input::Refused
            }
        }
    }

    fn show(&self, reply: EnrolReply) -> Result<PeerIdentity, String> {
        let endpoint = &self.endpoint;
        let key = endpoint.shared.identity.borrow().key().clone();
        let identity = Identity::new(reply.chain, key, reply.roots).map_err(|error| error.to_string())?;
        if identity.node() != endpoint.node() {
            return Err(format!("the certificate is about {}", identity.node()));
        }
        let says = identity.says().clone();
        endpoint.present(identity).map_err(|error: JoinError| error.to_string())?;
        endpoint.admit(reply.admission).map_err(|error| error.to_string())?;
        Ok(says)
    }
}

/// Requests a certificate in a task of its own, because the actor must stay able to hear of a changed role.
fn ask(endpoint: Endpoint, myself: ActorRef<EndpointMsg>) {
    tokio::spawn(async move {
        let request = SigningRequest::create(endpoint.shared.identity.borrow().key());
        let answer = endpoint.shared.broker.renew(request).await;
        let _ = myself.cast(EndpointMsg::Answered(answer));
    });
}
