import type { AckLogSize, ListedGroup } from '../ports/store.ts';
import { added, type Kept, type KeptBytes } from './kept.ts';
import { foundBytes, unloadedBytes } from './sizes.ts';

/**
 * What the groups of the database will need when they are in memory. They count from the start,
 * because a broker that takes new groups before it has loaded the old ones may run out of memory.
 */
export class UnloadedGroups {
  readonly #kept: Kept;
  readonly #groups = new Map<number, { readonly bytes: KeptBytes; readonly topicIds: readonly number[] }>();

  constructor(kept: Kept) {
    this.#kept = kept;
  }

  listed(groups: readonly ListedGroup[]): void {
    for (const { id, name, size } of groups) {
      const bytes = unloadedBytes(name, size);
      this.#groups.set(id, { bytes, topicIds: size.topicIds });
      this.#kept.force(bytes);
    }
  }

  /** Adds what the ack log has, of which the store keeps a sum for each cursor until its load. */
  foundInAckLog(sizes: readonly AckLogSize[]): void {
    for (const { groupId, size } of sizes) {
      const group = this.#groups.get(groupId);
      if (group === undefined) continue;
      const more = foundBytes(size);
      this.#kept.force(more);
      this.#groups.set(groupId, { ...group, bytes: added(group.bytes, more) });
    }
  }

  /** The group counts itself now, or is gone. */
  loaded(id: number): void {
    const group = this.#groups.get(id);
    if (group === undefined) return;
    this.#groups.delete(id);
    this.#kept.give(group.bytes);
  }

  /** The number of groups with a subscription to the topic. */
  subscribedTo(topicId: number): number {
    let groups = 0;
    for (const { topicIds } of this.#groups.values()) if (topicIds.includes(topicId)) groups++;
    return groups;
  }
}
