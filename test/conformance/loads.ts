import type { GroupStore, LoadedGroup, StoredCursor } from '../../src/delivery/ports/store.ts';

/** All groups, as a new owner reads them. */
export async function allGroups(store: GroupStore): Promise<LoadedGroup[]> {
  return store.loadGroups((await store.listGroups()).map(({ id }) => id));
}

/** All cursors of active subscriptions, as a new owner reads them. */
export async function allCursors(store: GroupStore): Promise<StoredCursor[]> {
  await store.readAckLog();
  const groups = await allGroups(store);
  const ids = groups.flatMap(({ subscriptions }) => subscriptions.map(({ id }) => id));
  const stored: StoredCursor[] = [];
  await store.loadCursors(ids, (one) => stored.push(one));
  return stored;
}
