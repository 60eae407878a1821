-- Version 1. Nothing of the log is ever changed: the triggers hold every
-- client of the file to that, ours included.
CREATE TABLE ledger_state (
  log            INTEGER PRIMARY KEY CHECK (log = 1),
  origin         TEXT    NOT NULL,
  size           INTEGER NOT NULL,
  root           BLOB    NOT NULL,
  map_root       BLOB    NOT NULL,
  pub_size       INTEGER NOT NULL,
  pub_checkpoint BLOB    NOT NULL,
  vkey           TEXT    NOT NULL,
  key_epoch      INTEGER NOT NULL
);
CREATE TABLE ledger_entry    (idx INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE ledger_evidence (idx INTEGER PRIMARY KEY, pubkey BLOB NOT NULL, sig BLOB NOT NULL);
CREATE TABLE ledger_tile     (level INTEGER, n INTEGER, data BLOB NOT NULL, PRIMARY KEY (level, n));
CREATE TABLE name (
  key      TEXT PRIMARY KEY,
  skeleton TEXT,
  addr     BLOB,             -- null: burnt before anybody had it
  idx      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX name_addr     ON name (addr)     WHERE addr IS NOT NULL;
CREATE UNIQUE INDEX name_skeleton ON name (skeleton) WHERE skeleton IS NOT NULL;
CREATE TABLE cosignature (size INTEGER, witness TEXT, line BLOB NOT NULL, PRIMARY KEY (size, witness)) WITHOUT ROWID;
CREATE TABLE invite (
  token_hash BLOB PRIMARY KEY,
  uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
  expires    INTEGER NOT NULL,  -- Unix seconds, 0: never
  note       TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE reservation (key TEXT PRIMARY KEY, note TEXT NOT NULL) WITHOUT ROWID;

CREATE TRIGGER entry_u    BEFORE UPDATE ON ledger_entry    BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER entry_d    BEFORE DELETE ON ledger_entry    BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER evidence_u BEFORE UPDATE ON ledger_evidence BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER evidence_d BEFORE DELETE ON ledger_evidence BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER tile_u     BEFORE UPDATE ON ledger_tile     BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER tile_d     BEFORE DELETE ON ledger_tile     BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER name_u     BEFORE UPDATE ON name            BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER name_d     BEFORE DELETE ON name            BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER state_d    BEFORE DELETE ON ledger_state    BEGIN SELECT RAISE(ABORT, 'ledger is append-only'); END;
CREATE TRIGGER state_u    BEFORE UPDATE ON ledger_state
  WHEN NEW.size < OLD.size OR NEW.pub_size < OLD.pub_size OR NEW.key_epoch < OLD.key_epoch OR NEW.origin <> OLD.origin
  BEGIN SELECT RAISE(ABORT, 'ledger state cannot go back'); END;
