/**
 * Keeps partitions in their zone. The zone of a member is what its client id begins with, up to the first dot:
 * `eu-1.worker-3` is in zone `eu-1`.
 *
 * Each zone gets the same share of each topic, whatever the number of its members, and shares that out among them. So
 * when a member leaves, its partitions go to the others of its zone, where what was cached for them is near; the other
 * zones notice nothing until the last member of a zone has gone. Within these shares as little as possible moves.
 *
 *     npm start -- --assignor-modules examples/assignors/zone-aware.mjs
 */
export const name = 'zone-aware';

export function assign({ members, topics, current }) {
  return topics.flatMap(({ topic, partitions }) => {
    const readers = new Map(
      members.filter((member) => member.topics.includes(topic)).map((member) => [member.memberId, member]),
    );
    const holders = new Map(
      current.flatMap((slot) =>
        slot.topic === topic && readers.has(slot.memberId) ? [[slot.partition, slot.memberId]] : [],
      ),
    );
    const zoneOf = (memberId) => readers.get(memberId)?.clientId.split('.')[0];
    const memberIdsByZone = Map.groupBy(readers.keys(), zoneOf);

    const all = Array.from({ length: partitions }, (_, partition) => partition);
    const byZone = share(all, [...memberIdsByZone.keys()].sort(), (partition) => zoneOf(holders.get(partition)));
    return [...byZone].flatMap(([zone, some]) => {
      const byMember = share(some, memberIdsByZone.get(zone), (partition) => holders.get(partition));
      return [...byMember].flatMap(([memberId, its]) => its.map((partition) => ({ topic, partition, memberId })));
    });
  });
}

/** Shares the partitions out evenly; each stays with whoever has it, as far as that one's share goes. */
function share(partitions, takers, holderOf) {
  const held = Map.groupBy(partitions, holderOf);
  const heldBy = (taker) => held.get(taker)?.length ?? 0;
  const each = Math.floor(partitions.length / takers.length);
  // Where it does not divide, whoever has most already keeps one more.
  const byHeld = [...takers].sort((a, b) => heldBy(b) - heldBy(a));
  const sizes = byHeld.map((taker, rank) => [taker, each + (rank < partitions.length % takers.length ? 1 : 0)]);

  const shares = new Map(sizes.map(([taker, size]) => [taker, (held.get(taker) ?? []).slice(0, size)]));
  const kept = new Set([...shares.values()].flat());
  const open = partitions.filter((partition) => !kept.has(partition));
  for (const [taker, size] of sizes) shares.get(taker).push(...open.splice(0, size - shares.get(taker).length));
  return shares;
}
