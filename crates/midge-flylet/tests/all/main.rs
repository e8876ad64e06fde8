//! What flylet does beyond the rules of the trait: Fly's words to the letter, and processes.

mod answers;
mod bed;
mod faults;
mod late_bodies;
mod lifecycle;
mod processes;
mod suspend;
