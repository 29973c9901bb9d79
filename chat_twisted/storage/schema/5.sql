-- Times in "message" are the wall clock's, which may be set: they may go back, or be wrong. What is
-- too old is told by numbers, and by a clock that waits before it believes a jump.

-- At "time" (milliseconds since the epoch, by that clock) numbers were given up to "number".
ALTER TABLE progress ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE progress ADD COLUMN time INTEGER NOT NULL DEFAULT 0;
UPDATE progress SET (number, time) = (SELECT number, time FROM message ORDER BY number DESC LIMIT 1)
WHERE EXISTS (SELECT 1 FROM message);

-- All messages up to "number" were said before "time", by the same clock. A row a minute at most.
CREATE TABLE moment (number INTEGER PRIMARY KEY, time INTEGER NOT NULL);
CREATE INDEX moment_time ON moment (time);
INSERT INTO moment SELECT max(number), max(time) FROM message GROUP BY time / 60000;
