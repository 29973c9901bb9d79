-- What is looked up by has a file of its own (index.sql), which can be made again at any time.

DROP TABLE place;
DROP TABLE request;
DROP TABLE words;
ALTER TABLE progress DROP COLUMN indexed;
ALTER TABLE progress DROP COLUMN forgotten;

-- Tells whether an index is of this archive.
ALTER TABLE progress ADD COLUMN stamp BLOB NOT NULL DEFAULT x'';
UPDATE progress SET stamp = randomblob(16);
