-- "time" is the time up to which a user has seen a conversation, in milliseconds since the epoch; 0 if
-- it is not known.
ALTER TABLE marker ADD COLUMN time INTEGER NOT NULL DEFAULT 0;
