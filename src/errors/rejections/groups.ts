import { rejection, type FieldsOf, type RejectionOf } from './rejection.ts';

export function groupNotFound(fields: FieldsOf<'GROUP_NOT_FOUND'>): RejectionOf<'GROUP_NOT_FOUND'> {
  const message = `there is no group "${fields.group}": Subscribe, Pull or JoinGroup makes one`;
  return rejection('GROUP_NOT_FOUND', message, fields);
}

/** The coordinator writes the `explanation`. */
export function groupDeleted(explanation: string): RejectionOf<'GROUP_DELETED'> {
  return rejection('GROUP_DELETED', explanation, {});
}

/** With `members` 0 a member is joining. A text is the coordinator's explanation. */
export function groupNotEmpty(
  found: { readonly group: string; readonly members: number } | string,
): RejectionOf<'GROUP_NOT_EMPTY'> {
  if (typeof found === 'string') return rejection('GROUP_NOT_EMPTY', found, { group: null, members: null });
  const { group, members } = found;
  const why = members > 0 ? `it has ${members} members` : 'somebody is joining or changing it';
  return rejection('GROUP_NOT_EMPTY', `group "${group}" must have no members for this: ${why}`, found);
}

export function groupMembersMax(fields: FieldsOf<'GROUP_MEMBERS_MAX'>): RejectionOf<'GROUP_MEMBERS_MAX'> {
  const message = `group "${fields.group}" has ${fields.groupMembersMax} members, as many as are allowed`;
  return rejection('GROUP_MEMBERS_MAX', message, fields);
}

export function groupTopicsMax(fields: FieldsOf<'GROUP_TOPICS_MAX'>): RejectionOf<'GROUP_TOPICS_MAX'> {
  const message = `group "${fields.group}" would be subscribed to more than ${fields.groupTopicsMax} topics`;
  return rejection('GROUP_TOPICS_MAX', message, fields);
}

export function groupTaskTooLarge(explanation: string): RejectionOf<'GROUP_TASK_TOO_LARGE'> {
  return rejection('GROUP_TASK_TOO_LARGE', explanation, {});
}

export function subscriptionNotFound(
  fields: FieldsOf<'SUBSCRIPTION_NOT_FOUND'>,
): RejectionOf<'SUBSCRIPTION_NOT_FOUND'> {
  const message = `group "${fields.group}" has no subscription to topic "${fields.topic}"`;
  return rejection('SUBSCRIPTION_NOT_FOUND', message, fields);
}

export function subscriptionExists(fields: FieldsOf<'SUBSCRIPTION_EXISTS'>): RejectionOf<'SUBSCRIPTION_EXISTS'> {
  const message = `group "${fields.group}" is subscribed to topic "${fields.topic}" already`;
  return rejection('SUBSCRIPTION_EXISTS', message, fields);
}

/** `state`: the one that forbids the call. */
export function subscriptionState(fields: FieldsOf<'SUBSCRIPTION_STATE'>): RejectionOf<'SUBSCRIPTION_STATE'> {
  const { group, topic, state } = fields;
  const what = `the subscription of group "${group}" to topic "${topic}" is ${state}`;
  const remedy = state === 'DEAD' ? ': a member of the group makes it ACTIVE' : '';
  return rejection('SUBSCRIPTION_STATE', what + remedy, fields);
}

export function subscriptionCancelled(
  fields: FieldsOf<'SUBSCRIPTION_CANCELLED'>,
): RejectionOf<'SUBSCRIPTION_CANCELLED'> {
  const { group, topic } = fields;
  const message = `the subscription of group "${group}" to topic "${topic}" was cancelled while this member had it`;
  return rejection('SUBSCRIPTION_CANCELLED', message, fields);
}
