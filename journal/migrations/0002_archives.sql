-- Version 2: the log can be cut, and the journal can state in its own chain what was done to it.

-- The journal's own statements in the chain: that a prefix was archived, that a loss was accepted, that it was restored.
-- Each is the whole content of its batch, which has no records.
CREATE TABLE notes (
  batch       INTEGER PRIMARY KEY,
  kind        TEXT NOT NULL,
  payload     BLOB NOT NULL
) STRICT;

-- Where the log was cut: one row for each archive, in order and without gaps. last_batch of the newest is where the
-- chain in this file begins. kept: how many records up to there stay in records all the same, and the SHA-256 of their
-- canonical bytes.
CREATE TABLE archives (
  archive         INTEGER PRIMARY KEY CHECK (archive > 0),
  first_batch     INTEGER NOT NULL,
  last_batch      INTEGER NOT NULL CHECK (last_batch >= first_batch),
  first_seq       INTEGER NOT NULL,
  last_seq        INTEGER NOT NULL CHECK (last_seq >= first_seq - 1),
  time_us         INTEGER NOT NULL,
  prev_hash       BLOB NOT NULL CHECK (length(prev_hash) = 32),
  hash            BLOB NOT NULL CHECK (length(hash) = 32),
  kept            INTEGER NOT NULL,
  kept_sha256     BLOB NOT NULL CHECK (length(kept_sha256) = 32),
  file            TEXT NOT NULL,
  file_sha256     BLOB NOT NULL CHECK (length(file_sha256) = 32)
) STRICT;

-- At most one row: the newest archive, as long as not all that may go has gone. kept: the numbers of the records that
-- stay, big-endian 64-bit, compressed by zlib.
CREATE TABLE removal (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  archive     INTEGER NOT NULL,
  kept        BLOB NOT NULL
) STRICT;
