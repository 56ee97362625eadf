import type { PluggableAssignor } from '../../../src/coordinator/assignors/pluggable.ts';

/** An assignor as an operator may write one: it works, except for three members. */
export const fussy: PluggableAssignor = {
  name: 'fussy',
  assign({ members, topics }) {
    if (members.length === 3) throw new Error('three members are too many for two, and too few for four');
    return topics.flatMap(({ topic, partitions }) => {
      const readers = members.filter((member) => member.topics.includes(topic));
      if (readers.length === 0) return [];
      return Array.from({ length: partitions }, (_, partition) => {
        return { topic, partition, memberId: readers[partition % readers.length]!.memberId };
      });
    });
  },
};
