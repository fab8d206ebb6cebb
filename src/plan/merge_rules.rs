//! The rules by which two values that grew from one are brought together, whatever they say.
//!
//! Must not know any record. Invariant: nothing here depends on which side is ours.

use std::fmt::Debug;

/// A value where two histories parted (`None`: it came later), and what became of it on either side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides<'a, T> {
    pub(super) base: Option<&'a T>,
    pub(super) ours: &'a T,
    pub(super) theirs: &'a T,
}

/// The same for a part that was taken out.
pub(super) struct Parts<T> {
    base: Option<T>,
    ours: T,
    theirs: T,
}

/// What two sides come to.
#[derive(Debug)]
pub(super) enum Clash<'a, T> {
    /// They are alike, or only one of them changed.
    Agreed(&'a T),
    /// Both changed.
    Contested {
        /// Who ranks higher.
        winner: &'a T,
        /// The other.
        loser: &'a T,
        /// They rank alike: their text decided.
        tied: bool,
    },
}

impl<'a, T> Clash<'a, T> {
    pub(super) fn winner(&self) -> &'a T {
        match self {
            Self::Agreed(value) => value,
            Self::Contested { winner, .. } => winner,
        }
    }

    pub(super) fn chosen(&self) -> T
    where
        T: Clone,
    {
        self.winner().clone()
    }
}

impl<'a, T: PartialEq + Debug> Sides<'a, T> {
    /// The side that changed; of two that did, the one that ranks higher.
    pub(super) fn clash<K: Ord>(&self, rank: impl Fn(&T) -> K) -> Clash<'a, T> {
        let (ours, theirs) = (self.ours, self.theirs);
        if ours == theirs || self.base == Some(theirs) {
            return Clash::Agreed(ours);
        }
        if self.base == Some(ours) {
            return Clash::Agreed(theirs);
        }
        let order = rank(ours).cmp(&rank(theirs));
        // Both hosts have to come to the same end without asking each other: the text is as good as a coin, and the same here and there.
        let ours_wins = order.then_with(|| format!("{ours:?}").cmp(&format!("{theirs:?}"))).is_gt();
        let (winner, loser) = if ours_wins { (ours, theirs) } else { (theirs, ours) };
        Clash::Contested { winner, loser, tied: order.is_eq() }
    }

    /// A part of each.
    pub(super) fn part<P>(&self, take: impl Fn(&T) -> P) -> Parts<P> {
        Parts { base: self.base.map(&take), ours: take(self.ours), theirs: take(self.theirs) }
    }

    /// A list of each, joined; see [`joined`].
    pub(super) fn list<I: Clone + PartialEq, K: Ord>(
        &self,
        take: impl Fn(&T) -> &Vec<I>,
        key: impl Fn(&I) -> K,
    ) -> Vec<I> {
        joined(self.base.map_or(&[], |base| take(base)), take(self.ours), take(self.theirs), key)
    }
}

impl<P: PartialEq + Debug> Parts<P> {
    /// Whether both sides say the same.
    pub(super) fn agree(&self) -> bool {
        self.ours == self.theirs
    }

    pub(super) fn clash<K: Ord>(&self, rank: impl Fn(&P) -> K) -> Clash<'_, P> {
        Sides { base: self.base.as_ref(), ours: &self.ours, theirs: &self.theirs }.clash(rank)
    }
}

/// Two lists that grew from one: what either added is there, what either took away is not. What was there before keeps its order,
/// what was added on two sides is ordered by `key`.
pub(super) fn joined<I: Clone + PartialEq, K: Ord>(
    base: &[I],
    ours: &[I],
    theirs: &[I],
    key: impl Fn(&I) -> K,
) -> Vec<I> {
    if ours == theirs || theirs == base {
        return ours.to_vec();
    }
    if ours == base {
        return theirs.to_vec();
    }
    let mut list: Vec<I> = base.iter().filter(|item| ours.contains(item) && theirs.contains(item)).cloned().collect();
    let mut added: Vec<I> = Vec::new();
    for item in ours.iter().chain(theirs) {
        if !base.contains(item) && !added.contains(item) {
            added.push(item.clone());
        }
    }
    added.sort_by_key(key);
    list.extend(added);
    list
}

/// Gives each of the named fields of a record, which is the winner's so far, the loser's value where only the loser changed it.
macro_rules! three_way {
    ($record:ident, $base:expr, $winner:ident, $loser:ident; $($field:ident),+ $(,)?) => {$(
        if $base.is_some_and(|base| base.$field == $winner.$field) {
            $record.$field = $loser.$field.clone();
        }
    )+};
}
pub(super) use three_way;
