-- Tables for finding messages. They are derived from the archive after its commits.

-- The number up to which messages are indexed; the number up to which they are removed, before they
-- are deleted from the archive; and the stamp of the archive.
CREATE TABLE looked_up.indexed (
    upto INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    stamp BLOB NOT NULL
);

-- The messages of each conversation. "one" and "other" are the numbers of its two users, in order; or
-- 0 and the number of a room; or 0 and 0 for the conversation of all users. A row has the numbers of all
-- messages that were indexed together, as a JSON array of differences from "base", because numbers
-- are long. One row for each message took three times as long. The rows of a conversation don't
-- overlap.
CREATE TABLE looked_up.place (
    one INTEGER NOT NULL,
    other INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    base INTEGER NOT NULL,
    numbers TEXT NOT NULL,
    PRIMARY KEY (one, other, first)
) WITHOUT ROWID;

-- The earliest and the latest time of the messages between two numbers, at most about a thousand. Times
-- need not increase with the numbers.
CREATE TABLE looked_up.step (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    earliest INTEGER NOT NULL,
    latest INTEGER NOT NULL
);

-- The users with whom a user has talked, by their folded names. Several users may have had a name, one
-- after the other.
CREATE TABLE looked_up.partner (
    user INTEGER NOT NULL,
    name TEXT NOT NULL,
    partner INTEGER NOT NULL,
    PRIMARY KEY (user, name, partner)
) WITHOUT ROWID;
CREATE INDEX looked_up.partner_names ON partner (user, partner);

-- The full text; "rowid" is the number of the message, in whose table the text is.
CREATE VIRTUAL TABLE looked_up.words USING fts5 (
    text, content = '', tokenize = 'unicode61 remove_diacritics 2'
);
