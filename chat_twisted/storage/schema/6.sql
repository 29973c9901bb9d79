-- The whole state of the chat (core/state.py) is in the file from now on.

-- The kind of a message (0 text, 1 action, 2 notice), and the time when it got its place in the order,
-- in milliseconds of the log's clock, which never goes back. Older messages get their time of day.
ALTER TABLE message ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN logged INTEGER NOT NULL DEFAULT 0;

-- Deleted texts that the index still has. To remove a text from a full-text index, it must be known.
-- Row 0 is there while both files may have remains of deleted texts (storage/housekeeping.py).
CREATE TABLE deletion (number INTEGER PRIMARY KEY, text TEXT NOT NULL);

-- Authors whose texts up to "number" are to be deleted; this is done up to "done".
CREATE TABLE erasure (
    user INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
);

-- The state is loaded from the following tables. "ordinal" orders the rows of a table: it is the
-- version of the state that made the row.

-- How many entries were accepted ("version"), the time of the last one by the log's clock, and the
-- number of the newest message, or a higher one that was skipped.
ALTER TABLE progress ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE progress ADD COLUMN logged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE progress ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE progress DROP COLUMN edition;
-- The time was noted now and then, so a server that was killed has a newer one in "moment", or none.
UPDATE progress SET logged = max(
    time, ifnull((SELECT moment.time FROM moment ORDER BY moment.number DESC LIMIT 1), 0)
);
UPDATE progress SET logged = ifnull(
    (SELECT message.time FROM message ORDER BY message.number DESC LIMIT 1), 0
) WHERE logged = 0;
UPDATE progress SET newest = max(
    ifnull((SELECT max(number) FROM message), 0),
    ifnull((SELECT max(since) FROM user), 0),
    ifnull((SELECT max(max(since, ifnull(until, 0))) FROM member), 0)
);

-- The server's options on which decisions depend: one row, which the first start writes. NULL means
-- no limit.
CREATE TABLE options (
    grace INTEGER NOT NULL,
    guests INTEGER NOT NULL,
    rooms INTEGER,
    address_rooms INTEGER,
    held INTEGER NOT NULL,
    address_held INTEGER
);

-- Messages of the last hour may be sent again by their clients, or be deleted by their authors.
UPDATE message SET logged = min(time, (SELECT logged FROM progress))
WHERE number > ifnull((SELECT max(number) FROM moment
    WHERE moment.time < (SELECT logged FROM progress) - 4200000), 0);

-- A name belongs to one user. Older servers may have left another one behind.
DELETE FROM user WHERE EXISTS (
    SELECT 1 FROM user AS other WHERE lower(other.name) = lower(user.name)
    AND (other.account != 0, other.since, other.id) > (user.account != 0, user.since, user.id)
);
DELETE FROM member WHERE user NOT IN (SELECT id FROM user);
DELETE FROM invitation WHERE user NOT IN (SELECT id FROM user);
DELETE FROM key WHERE user NOT IN (SELECT id FROM user WHERE account != 0);
DELETE FROM password WHERE user NOT IN (SELECT id FROM user WHERE account != 0);

-- Tokens with which users can log in, as SHA-256 digests. "proof" is the key, or the stored hash of the
-- password, by which the user logged in to get the token; empty for guests.
CREATE TABLE token (
    user INTEGER NOT NULL,
    digest BLOB NOT NULL,
    proof TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (user, digest)
) WITHOUT ROWID;
INSERT INTO token SELECT id, token, '', 1 FROM user WHERE token != x'' AND account = 0;

-- The sessions of each node. When a node starts, it ends those that it had before.
CREATE TABLE session (
    user INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    node INTEGER NOT NULL,
    host TEXT NOT NULL,
    token BLOB NOT NULL,
    proof TEXT NOT NULL,
    present INTEGER NOT NULL,
    PRIMARY KEY (user, epoch)
) WITHOUT ROWID;
INSERT INTO session SELECT id, 1, 0, '', token, '', 1 FROM user WHERE account = 0;

-- Guests without a session whose names are held, until a time of the log's clock.
CREATE TABLE hold (
    user INTEGER PRIMARY KEY,
    until INTEGER NOT NULL,
    address TEXT NOT NULL,
    ordinal INTEGER NOT NULL
);

-- Read markers: up to which number a user has seen a conversation: that of all users (0, ''), a room
-- (its number, ''), or that with another user (0, the folded name).
CREATE TABLE marker (
    user INTEGER NOT NULL,
    room INTEGER NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (user, room, name)
) WITHOUT ROWID;

-- Accounts; "password" is an argon2 hash, empty without a password.
CREATE TABLE account (
    user INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    operator INTEGER NOT NULL,
    password TEXT NOT NULL
);
INSERT INTO account SELECT id, 0, account = 2, ifnull(hash, '') FROM user
    LEFT JOIN password ON password.user = id WHERE account != 0;
DROP TABLE password;

ALTER TABLE key ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0;
UPDATE key SET ordinal = numbered.ordinal FROM (
    SELECT user, key, row_number() OVER (ORDER BY user, key) AS ordinal FROM key
) AS numbered WHERE numbered.user = key.user AND numbered.key = key.key;

-- Users may read messages after "since", and have acknowledged those up to "cursor". "kept" is whether
-- a guest's name is held after the last session; "epoch" is the number of the last login; "away" is the
-- away text.
CREATE TABLE new_user (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    kept INTEGER NOT NULL,
    since INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    away TEXT
);
INSERT INTO new_user SELECT id, name, 1, since, row_number() OVER (ORDER BY since, id), position,
    account = 0, NULL FROM user;
DROP TABLE user;
ALTER TABLE new_user RENAME TO user;

-- A member's rank: 0 none, 1 voice, 2 operator. Each room gets an operator: its owner, or else its
-- longest member. Rooms without members are deleted.
ALTER TABLE member ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
DROP INDEX member_joined;
UPDATE member SET joined = numbered.ordinal FROM (
    SELECT user, room, since, row_number() OVER (ORDER BY since, joined, user) AS ordinal
    FROM member
) AS numbered WHERE numbered.user = member.user AND numbered.room = member.room
    AND numbered.since = member.since;
DELETE FROM room WHERE id NOT IN (SELECT room FROM member WHERE until IS NULL);
UPDATE member SET until = since WHERE until IS NULL AND room NOT IN (SELECT id FROM room);
DELETE FROM invitation WHERE room NOT IN (SELECT id FROM room);
UPDATE member SET rank = 2 WHERE until IS NULL
    AND user = (SELECT owner FROM room WHERE id = member.room);
UPDATE member SET rank = 2 WHERE until IS NULL AND joined IN (
    SELECT min(joined) FROM member WHERE until IS NULL GROUP BY room HAVING max(rank) < 2
);
ALTER TABLE member RENAME COLUMN joined TO ordinal;

-- "address" is the address from which a room was made, empty if it is not known.
CREATE TABLE new_room (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    time INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    private INTEGER NOT NULL,
    moderated INTEGER NOT NULL,
    topic_locked INTEGER NOT NULL,
    topic TEXT NOT NULL,
    topic_author TEXT NOT NULL,
    topic_time INTEGER NOT NULL
);
INSERT INTO new_room SELECT id, name, '', 0, row_number() OVER (ORDER BY id), private, 0, 0, topic,
    '', 0 FROM room;
DROP TABLE room;
ALTER TABLE new_room RENAME TO room;

-- Names that are banned from a room.
CREATE TABLE room_ban (
    room INTEGER NOT NULL,
    name TEXT NOT NULL,
    author TEXT NOT NULL,
    time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (room, name)
) WITHOUT ROWID;

ALTER TABLE sanction RENAME COLUMN "by" TO author;

-- No ordinal may be higher than the version.
UPDATE progress SET version = max(
    ifnull((SELECT max(ordinal) FROM user), 0),
    ifnull((SELECT max(ordinal) FROM member), 0),
    ifnull((SELECT max(ordinal) FROM room), 0),
    ifnull((SELECT max(ordinal) FROM key), 0)
);
