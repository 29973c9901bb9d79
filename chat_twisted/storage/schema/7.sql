-- "time" is the time of day when a user came, 0 if it is not known.
ALTER TABLE user ADD COLUMN time INTEGER NOT NULL DEFAULT 0;
