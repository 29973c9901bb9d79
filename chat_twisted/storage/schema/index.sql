-- What messages are looked up by. All of it is made of the archive, behind its commits.

-- How far it has come; up to where messages are to be deleted; and the stamp of the archive.
CREATE TABLE looked_up.indexed (
    upto INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    stamp BLOB NOT NULL
);

-- In which conversations messages stand: "one" and "other" are the numbers of its two users, in
-- order; 0 and the number of a room; or 0 and 0, with everybody. A row has the numbers of all that
-- were indexed together, as a JSON array of how far each is from "base", since numbers are long: a
-- row for each message took three times as long. What stands in one row of a conversation was said
-- before all that stands in the next.
CREATE TABLE looked_up.place (
    one INTEGER NOT NULL,
    other INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    base INTEGER NOT NULL,
    numbers TEXT NOT NULL,
    PRIMARY KEY (one, other, first)
) WITHOUT ROWID;

-- When messages were said: the least and the greatest time of those between two numbers, at most
-- about a thousand. Times need not grow with the numbers.
CREATE TABLE looked_up.step (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    earliest INTEGER NOT NULL,
    latest INTEGER NOT NULL
);

-- With whom users have talked, by the name as it is looked up: a name is of one after the other.
CREATE TABLE looked_up.partner (
    user INTEGER NOT NULL,
    name TEXT NOT NULL,
    partner INTEGER NOT NULL,
    PRIMARY KEY (user, name, partner)
) WITHOUT ROWID;

-- The row's number is the message's, and the text is there.
CREATE VIRTUAL TABLE looked_up.words USING fts5 (
    text, content = '', tokenize = 'unicode61 remove_diacritics 2'
);
