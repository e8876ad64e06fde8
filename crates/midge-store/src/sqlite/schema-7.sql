-- From schema 6 to 7: the turn that a lane got when it was served last.
ALTER TABLE lanes ADD COLUMN served INTEGER;
