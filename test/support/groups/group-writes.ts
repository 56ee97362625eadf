import type {
  GroupStore,
  NewSubscription,
  SavedChange,
  SubscriptionChange,
  SubscriptionRow,
} from '../../../src/delivery/ports/store.ts';

/** Creates subscriptions that never die, or finds them. */
export async function createIn(
  store: Pick<GroupStore, 'createSubscriptions'>,
  wanted: readonly (Omit<NewSubscription, 'deadAfterMs'> & Partial<NewSubscription>)[],
): Promise<SubscriptionRow[]> {
  const created = await store.createSubscriptions(wanted.map((one) => ({ deadAfterMs: null, ...one })));
  return created.map(({ row }) => row);
}

/** Cancels a subscription that nothing is owed to. */
export function cancelIn(
  store: Pick<GroupStore, 'changeSubscription'>,
  subscriptionId: number,
): Promise<SubscriptionChange> {
  return store.changeSubscription(subscriptionId, { type: 'CANCEL', ends: [], owedRecords: 0 });
}

/** Deletes a group that nothing is owed to. */
export function endIn(store: Pick<GroupStore, 'endGroup'>, groupId: number): Promise<boolean> {
  return store.endGroup(groupId, 'GROUP_DELETED', []);
}

/** Saves changes of groups whose members this broker has not heard. */
export function saveIn(
  store: Pick<GroupStore, 'saveGroups'>,
  changes: readonly Pick<SavedChange, 'groupId' | 'change'>[],
): Promise<SubscriptionRow[]> {
  return store.saveGroups(
    changes.map((one) => ({ ...one, heardAgoMs: () => null })),
    false,
  );
}
