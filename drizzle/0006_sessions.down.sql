CREATE OR REPLACE FUNCTION millrace.fence(fence_broker text, fence_slot integer, fence_epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM millrace.broker_fence AS f
   WHERE f.broker = fence_broker AND f.slot = fence_slot AND f.epoch = fence_epoch FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'broker % is fenced in epoch %: another broker has taken over', fence_broker, fence_epoch
      USING ERRCODE = 'MR001';
  END IF;
END $$;

ALTER TABLE millrace.broker_fence
  DROP COLUMN backend_start,
  DROP COLUMN pid;

ALTER TABLE millrace.broker_lease
  DROP COLUMN backend_start,
  DROP COLUMN pid;
