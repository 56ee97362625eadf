DROP FUNCTION millrace.append_acks(text, integer, bigint, integer, integer[], integer[], integer[], bigint[], integer[],
  bigint[], integer[], bigint[]);
DROP TABLE millrace.ack_log_2;
DROP TABLE millrace.ack_log_1;
DROP TABLE millrace.ack_log_0;
DROP TABLE millrace.cursors;
DROP TABLE millrace.subscriptions;
DROP TABLE millrace.group_assignments;
DROP TABLE millrace.group_members;
DROP TABLE millrace.consumer_groups;
