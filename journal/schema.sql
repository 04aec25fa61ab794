-- The journal's tables at the current schema version: the sum of all files in migrations/, for the reader.
-- A journal is made by running the migrations; a test holds that both lead to the same tables.
-- The format and its promises are described in format.md.

-- One row: who this journal is. The identity seeds the hash chain, so that batches of two journals can't be swapped.
CREATE TABLE journal (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  identity    BLOB NOT NULL CHECK (length(identity) = 16)
) STRICT;

-- Append-only. seq counts from 1 without gaps. prev is the seq of the record before of the same instance, 0 if there
-- is none: an instance's history is read along these links. An index by instance would cost three times the CPU and
-- five times the bytes on flash of all else together, because each record would touch a page of its own.
CREATE TABLE records (
  seq         INTEGER PRIMARY KEY,
  instance    TEXT NOT NULL,
  kind        TEXT NOT NULL,
  time_us     INTEGER NOT NULL,
  prev        INTEGER NOT NULL CHECK (prev >= 0 AND prev < seq),
  payload     BLOB NOT NULL
) STRICT;

-- Append-only, one row for each commit. A batch without records has last_seq = first_seq - 1.
CREATE TABLE batches (
  batch           INTEGER PRIMARY KEY,
  first_seq       INTEGER NOT NULL,
  last_seq        INTEGER NOT NULL CHECK (last_seq >= first_seq - 1),
  last_message_id INTEGER NOT NULL,
  time_us         INTEGER NOT NULL,
  prev_hash       BLOB NOT NULL CHECK (length(prev_hash) = 32),
  hash            BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

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

-- Projections: what is true after the last batch. checksum: CRC-32 of the row's other values (see rowcheck.py).
CREATE TABLE instances (
  instance    TEXT NOT NULL PRIMARY KEY,
  kind        TEXT NOT NULL,
  name        TEXT NOT NULL,
  status      TEXT NOT NULL,
  parent      TEXT NOT NULL,
  created_us  INTEGER NOT NULL,
  updated_us  INTEGER NOT NULL,
  first_seq   INTEGER NOT NULL,
  last_seq    INTEGER NOT NULL,
  state       BLOB NOT NULL
, checksum INTEGER) STRICT;
-- What a recovery reads; its cost follows what is live, not what has ever been.
CREATE INDEX instances_live ON instances (kind)
  WHERE kind = 'entity' OR status NOT IN ('Completed', 'Failed', 'Terminated');

-- The last record of those that have records and no row in instances, or whose row was not written with it. Where
-- both name one, the greater holds.
CREATE TABLE tails (
  instance    TEXT NOT NULL PRIMARY KEY,
  last_seq    INTEGER NOT NULL
, checksum INTEGER) STRICT, WITHOUT ROWID;

CREATE TABLE timers (
  instance    TEXT NOT NULL,
  task_id     INTEGER NOT NULL,
  due_us      INTEGER NOT NULL,
  payload     BLOB NOT NULL, checksum INTEGER,
  PRIMARY KEY (instance, task_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE activities (
  instance    TEXT NOT NULL,
  task_id     INTEGER NOT NULL,
  payload     BLOB NOT NULL, checksum INTEGER,
  PRIMARY KEY (instance, task_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
  message_id  INTEGER PRIMARY KEY,
  target      TEXT NOT NULL,
  payload     BLOB NOT NULL
, checksum INTEGER) STRICT;
