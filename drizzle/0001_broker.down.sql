DROP FUNCTION millrace.fence(text, integer, bigint);
DROP TABLE millrace.broker_fence;
DROP TABLE millrace.broker_lease;
