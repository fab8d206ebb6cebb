//! The tables of SPEC §5 row by row, and the law that planning over what a plan leaves behind yields nothing.

mod environments;
mod holds;
mod laws;
mod resumes;
mod scene;
mod tasks;
