-- Version 1. Nothing of the log is ever changed: the triggers hold every
-- client of the database to that, the owner included. Grant the server's role
-- no more than SELECT, INSERT and (ledger_state, invite, reservation,
-- cosignature) UPDATE and DELETE to hold it by permissions too.
CREATE TABLE ledger_state (
  log            smallint PRIMARY KEY CHECK (log = 1),
  origin         text     NOT NULL,
  size           bigint   NOT NULL,
  root           bytea    NOT NULL,
  map_root       bytea    NOT NULL,
  pub_size       bigint   NOT NULL,
  pub_checkpoint bytea    NOT NULL,
  vkey           text     NOT NULL,
  key_epoch      integer  NOT NULL
);
CREATE TABLE ledger_entry    (idx bigint PRIMARY KEY, data bytea NOT NULL);
CREATE TABLE ledger_evidence (idx bigint PRIMARY KEY, pubkey bytea NOT NULL, sig bytea NOT NULL);
CREATE TABLE ledger_tile     (level smallint, n bigint, data bytea NOT NULL, PRIMARY KEY (level, n));
-- A full tile is 8,192 bytes of hashes: more than a page holds in line, and
-- nothing that compresses.
ALTER TABLE ledger_tile     ALTER COLUMN data   SET STORAGE EXTERNAL;
ALTER TABLE ledger_evidence ALTER COLUMN pubkey SET STORAGE EXTERNAL;
ALTER TABLE ledger_evidence ALTER COLUMN sig    SET STORAGE EXTERNAL;
CREATE TABLE name (
  key      text COLLATE "C" PRIMARY KEY,
  skeleton text COLLATE "C" UNIQUE,
  addr     bytea UNIQUE,          -- null: burnt before anybody had it
  idx      bigint NOT NULL
);
CREATE TABLE cosignature (size bigint, witness text, line bytea NOT NULL, PRIMARY KEY (size, witness));
CREATE TABLE invite (
  token_hash bytea   PRIMARY KEY,
  uses_left  integer NOT NULL CHECK (uses_left >= 0),
  expires    bigint  NOT NULL,    -- Unix seconds, 0: never
  note       text    NOT NULL
);
CREATE TABLE reservation (key text COLLATE "C" PRIMARY KEY, note text NOT NULL);

CREATE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'ledger is append-only'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_evidence FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_tile     FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON name            FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE           ON ledger_state    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();

CREATE FUNCTION ledger_forward_only() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN
    IF NEW.size < OLD.size OR NEW.pub_size < OLD.pub_size OR NEW.key_epoch < OLD.key_epoch OR NEW.origin <> OLD.origin THEN
      RAISE EXCEPTION 'ledger state cannot go back';
    END IF;
    RETURN NEW;
  END $$;
CREATE TRIGGER forward_only BEFORE UPDATE ON ledger_state FOR EACH ROW EXECUTE FUNCTION ledger_forward_only();
