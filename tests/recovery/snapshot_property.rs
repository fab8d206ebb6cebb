//! Random worktrees.
