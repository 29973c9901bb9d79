-- "time" is the time up to which a user has seen a conversation, in milliseconds since the epoch; 0 if
-- it is not known.
ALTER TABLE marker ADD COLUMN time INTEGER NOT NULL DEFAULT 0;

-- "private" is both: only invited users can join ("invite_only"), and only members and invited users
-- know of the room ("secret").
ALTER TABLE room ADD COLUMN invite_only INTEGER NOT NULL DEFAULT 0;
ALTER TABLE room ADD COLUMN secret INTEGER NOT NULL DEFAULT 0;

-- A line that users write about themselves, whether the user is a program, and the user's name on
-- their own machine, as their client says.
ALTER TABLE user ADD COLUMN real_name TEXT NOT NULL DEFAULT '';
ALTER TABLE user ADD COLUMN bot INTEGER NOT NULL DEFAULT 0;
ALTER TABLE user ADD COLUMN login_name TEXT NOT NULL DEFAULT '';
