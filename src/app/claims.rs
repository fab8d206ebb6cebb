//! Claims: listed, shown, and checked by their tokens.

use crate::app::failure::Failure;
use crate::app::listing::Listing;
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::session::Session;

impl Tether {
    /// Every claim that was ever taken.
    pub fn list_claims(&self) -> Result<Listing<Claim>, Failure> {
        self.list_all::<Claim>()
    }

    /// A claim.
    pub fn show_claim(&self, kind: ClaimKind, key: &str) -> Result<Claim, Failure> {
        if let Some(claim) = self.ledger().read_single::<Claim>(&(kind, key.to_owned()))? {
            Ok(claim)
        } else {
            let known = self.list_claims()?.records;
            Err(Failure::unknown(
                "claim",
                key,
                known.iter().filter(|claim| claim.kind == kind).map(|claim| claim.key.as_str()),
            ))
        }
    }

    /// The claim that a token belongs to, if it is still that session's; a refusal otherwise.
    pub fn fence(&self, token: &str) -> Result<Claim, Failure> {
        let fenced = |why: &str| {
            Failure::held("fenced", format!("the token {token} is not valid any more: {why}"))
                .hint("stop: somebody else may be at work; reserve again before you go on")
        };
        let claims = self.list_claims()?;
        let family = token.rsplit_once('#').map(|(family, _)| family);
        let same_thing = |claim: &&Claim| claim.token.0.rsplit_once('#').map(|(family, _)| family) == family;
        let Some(claim) = claims.records.iter().find(same_thing) else {
            let name = family.map(|family| format!("refs/tether/claims/{family}"));
            let torn = claims.unreadable.iter().find(|known| name.as_ref() == Some(&known.name));
            return Err(torn.map_or_else(
                || fenced("there is no such claim"),
                |torn| {
                    let problem = format!("the claim of {token} cannot be read: {}", torn.problem);
                    Failure::fatal("invalid_record", problem)
                        .hint("stop until it can be told whose it is: `git tether doctor` shows its last good state")
                },
            ));
        };
        if claim.token.0 != token {
            return Err(fenced(&format!("the claim has been taken again ({})", claim.token)));
        }
        if !claim.is_held() {
            return Err(fenced("the claim has been given back"));
        }
        let holder = claim.session.as_ref().map(|id| self.ledger().read_single::<Session>(id)).transpose()?.flatten();
        match holder {
            Some(session) if !session.status.is_terminal() => Ok(claim.clone()),
            Some(session) => Err(fenced(&format!("session {} has ended ({})", session.id, session.status))),
            None => Err(fenced("its session is not recorded any more")),
        }
    }
}
