-- Which broker owns the database, and the rows that its write transactions are fenced by.

CREATE TABLE millrace.broker_lease (
  only_one   boolean     PRIMARY KEY DEFAULT true CHECK (only_one),
  broker     text        NOT NULL,
  epoch      bigint      NOT NULL,
  renewed_at timestamptz NOT NULL
);

-- One row for each write connection (slot) of a broker. A takeover deletes or raises the rows of the one before, and so
-- waits for every transaction of it that is in flight.
CREATE TABLE millrace.broker_fence (
  broker text    NOT NULL,
  slot   integer NOT NULL,
  epoch  bigint  NOT NULL,
  PRIMARY KEY (broker, slot)
);

-- The first statement of every write transaction of the broker. It raises, so that a pipelined transaction fails as a
-- whole. FOR SHARE, because the takeover has to wait for it; the row is found by the epoch in the row itself and never by
-- a join, which would read it in the statement's old snapshot.
CREATE FUNCTION millrace.fence(fence_broker text, fence_slot integer, fence_epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM millrace.broker_fence AS f
   WHERE f.broker = fence_broker AND f.slot = fence_slot AND f.epoch = fence_epoch FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'broker % is fenced in epoch %: another broker has taken over', fence_broker, fence_epoch
      USING ERRCODE = 'MR001';
  END IF;
END $$;
