-- Which sessions of the server write under a fence row and hold the lock for the lease, so that a successor can end those of an owner that does not
-- answer. A process id together with its start is one session's for ever, and nobody can set either. Null: not known.

ALTER TABLE millrace.broker_lease
  ADD COLUMN pid           integer,
  ADD COLUMN backend_start timestamptz;

ALTER TABLE millrace.broker_fence
  ADD COLUMN pid           integer,
  ADD COLUMN backend_start timestamptz;

-- FOR KEY SHARE, which a takeover's DELETE waits for as for FOR SHARE, and which lets a new session write its name into the row while an
-- older one of the same slot still holds it. So a fence row is deleted and made anew, and its epoch is never updated.
CREATE OR REPLACE FUNCTION millrace.fence(fence_broker text, fence_slot integer, fence_epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM millrace.broker_fence AS f
   WHERE f.broker = fence_broker AND f.slot = fence_slot AND f.epoch = fence_epoch FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'broker % is fenced in epoch %: another broker has taken over', fence_broker, fence_epoch
      USING ERRCODE = 'MR001';
  END IF;
END $$;
