-- What messages are looked up by. All of it is made of the archive, behind its commits.

-- How far it has come, up to where Ids were forgotten, and the stamp of the archive.
CREATE TABLE looked_up.indexed (
    upto INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    stamp BLOB NOT NULL
);

-- In which conversations messages stand: with everybody (0), in a room (its number), and for the two
-- parties of a direct one (the user's number, and the other's name as it is looked up). A row has
-- the numbers of all that were indexed together, as a JSON array in order: a row for each message
-- took twice the time. Rows of one conversation follow one another.
CREATE TABLE looked_up.place (
    party INTEGER NOT NULL,
    name TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    numbers TEXT NOT NULL,
    PRIMARY KEY (party, name, first)
) WITHOUT ROWID;

-- Under which Ids users sent their newest messages, so that one sent again is not a second one.
CREATE TABLE looked_up.request (
    user INTEGER NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (user, id)
) WITHOUT ROWID;

-- The row's number is the message's, and the text is there.
CREATE VIRTUAL TABLE looked_up.words USING fts5 (
    text, content = '', tokenize = 'unicode61 remove_diacritics 2'
);
