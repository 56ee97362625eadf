import { rejection, type FieldsOf, type RejectionOf } from './rejection.ts';

export function memberPullsMax(fields: FieldsOf<'MEMBER_PULLS_MAX'>): RejectionOf<'MEMBER_PULLS_MAX'> {
  const message = `member "${fields.memberId}" has ${fields.memberPullsMax} pulls under way: wait for one to end`;
  return rejection('MEMBER_PULLS_MAX', message, fields);
}

/** The coordinator writes each `explanation`, because it knows why it rejects an input. */

export function memberFenced(fields: FieldsOf<'MEMBER_FENCED'>): RejectionOf<'MEMBER_FENCED'> {
  const message = `member "${fields.memberId}" is not a member of this group (any more): join again`;
  return rejection('MEMBER_FENCED', message, fields);
}

/** Another process has joined with the instance id of this process. */
export function instanceFenced(fields: FieldsOf<'INSTANCE_FENCED'>): RejectionOf<'INSTANCE_FENCED'> {
  const message = `another process has joined with the group instance id of member "${fields.memberId}"`;
  return rejection('INSTANCE_FENCED', message, fields);
}

export function instanceIdInUse(explanation: string): RejectionOf<'INSTANCE_ID_IN_USE'> {
  return rejection('INSTANCE_ID_IN_USE', explanation, {});
}

export function inconsistentProtocols(explanation: string): RejectionOf<'INCONSISTENT_PROTOCOLS'> {
  return rejection('INCONSISTENT_PROTOCOLS', explanation, {});
}

/** `known`: the names of all assignors. */
export function assignorUnknown({
  assignorName,
  known,
}: {
  readonly assignorName: string;
  readonly known: Iterable<string>;
}): RejectionOf<'ASSIGNOR_UNKNOWN'> {
  const fields = { assignorName, known: [...known].join(', ') };
  return rejection('ASSIGNOR_UNKNOWN', `there is no assignor "${assignorName}"; there are ${fields.known}`, fields);
}

export function assignorFailed(explanation: string): RejectionOf<'ASSIGNOR_FAILED'> {
  return rejection('ASSIGNOR_FAILED', explanation, {});
}

export function notLeader(explanation: string): RejectionOf<'NOT_LEADER'> {
  return rejection('NOT_LEADER', explanation, {});
}

export function planStale(explanation: string): RejectionOf<'PLAN_STALE'> {
  return rejection('PLAN_STALE', explanation, {});
}

export function pageStale(): RejectionOf<'PAGE_STALE'> {
  const message = 'the assignment has changed since its first page: ask for the first page again';
  return rejection('PAGE_STALE', message, {});
}

/** `memberId`: the member of both streams. */
export function replaced(memberId: string): RejectionOf<'REPLACED'> {
  return rejection('REPLACED', `another stream has resumed member "${memberId}"; this one has ended`, {});
}

export function slowReader(fields: FieldsOf<'SLOW_READER'>): RejectionOf<'SLOW_READER'> {
  const message = `the client has not read its stream for ${fields.slowReaderMs} ms: subscribe again`;
  return rejection('SLOW_READER', message, fields);
}

export function syncTimeout(fields: FieldsOf<'SYNC_TIMEOUT'>): RejectionOf<'SYNC_TIMEOUT'> {
  const message = `the assignment of generation ${fields.generation} did not change in time`;
  return rejection('SYNC_TIMEOUT', message, fields);
}
