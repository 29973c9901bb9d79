-- What the state of the chat is decided from is in the file, and nothing else.

-- What sort of message it is (0 text, 1 action, 2 notice), and when it was put into the order, by the
-- log's clock, which never goes back (milliseconds). Of messages of before it is the time they have.
ALTER TABLE message ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN logged INTEGER NOT NULL DEFAULT 0;

-- Texts that were deleted and are to be unlearnt by the index, which must be told what it has learnt.
CREATE TABLE deletion (number INTEGER PRIMARY KEY, text TEXT NOT NULL);

-- All texts of a user up to "number" are to be deleted; that is done up to "done".
CREATE TABLE erasure (
    user INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
);
