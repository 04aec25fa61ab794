-- Version 3: each row of a projection carries a CRC-32 of its values. NULL: written by an older version.
ALTER TABLE instances ADD COLUMN checksum INTEGER;
ALTER TABLE tails ADD COLUMN checksum INTEGER;
ALTER TABLE timers ADD COLUMN checksum INTEGER;
ALTER TABLE activities ADD COLUMN checksum INTEGER;
ALTER TABLE messages ADD COLUMN checksum INTEGER;
