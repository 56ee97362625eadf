import type { Delivery } from '../delivery/delivery.ts';
import type { MemberId } from '../delivery/ports/session.ts';
import type { Log } from '../log/log.ts';
import type { Clock } from '../time/clock.ts';
import type { Caller } from './caller.ts';
import type {
  CommitOffsetsCommand,
  CommittedOffset,
  FetchedOffset,
  FetchOffsetsCommand,
  GroupDetails,
  GroupFilter,
  GroupSummary,
  JoinGroupCommand,
  JoinGroupOutcome,
  MemberDetails,
  ResetOffset,
  ResetOffsetsCommand,
  StoredRebalance,
  SyncGroupCommand,
  SyncGroupOutcome,
} from './commands.ts';
import { fetchedPage } from './fetch-offsets.ts';
import { pageOf, type Page, type PageRequest } from './paging.ts';
import { withAges } from './record-ages.ts';

/** Membership of clients that call JoinGroup, offsets, and the state of groups. */
export function groupService(delivery: Delivery, log: Log, clock: Clock) {
  return {
    async joinGroup(caller: Caller, command: JoinGroupCommand): Promise<JoinGroupOutcome> {
      await delivery.loaded(command.group);
      return delivery.join(caller.host, command);
    },

    async syncGroup(command: SyncGroupCommand): Promise<SyncGroupOutcome> {
      await delivery.loaded(command.group);
      return delivery.membership.sync(command);
    },

    async leaveGroup({ group, memberId }: { readonly group: string; readonly memberId: MemberId }): Promise<void> {
      await delivery.loaded(group);
      return delivery.membership.leave(group, memberId);
    },

    async getGroup(name: string): Promise<GroupDetails> {
      await delivery.loaded(name);
      const details = delivery.describe(name);
      return { ...details, partitions: await withAges(details.partitions, log, clock) };
    },

    async listGroups(filter: GroupFilter, page: PageRequest): Promise<Page<GroupSummary>> {
      await delivery.allLoaded();
      const { items, nextToken } = pageOf(delivery.names(filter), (name) => name, page);
      // Summaries of the page only, because the lag of a group is a sum over its partitions.
      return { items: items.map((name) => delivery.summary(name)), nextToken };
    },

    async listMembers(
      group: string,
      page: PageRequest,
    ): Promise<Page<MemberDetails> & { readonly generation: number }> {
      await delivery.loaded(group);
      const { generation, members } = delivery.members(group);
      return { ...pageOf(members, ({ memberId }): string => memberId, page), generation };
    },

    async listRebalances(group: string): Promise<readonly StoredRebalance[]> {
      await delivery.loaded(group);
      return delivery.rebalances(group);
    },

    async deleteGroup(name: string): Promise<void> {
      await delivery.loaded(name);
      return delivery.deleteGroup(name);
    },

    async commitOffsets(command: CommitOffsetsCommand): Promise<CommittedOffset[]> {
      await delivery.loaded(command.group);
      return delivery.offsets.commit(command);
    },

    async fetchOffsets({ group, partitions, page }: FetchOffsetsCommand): Promise<Page<FetchedOffset>> {
      await delivery.loaded(group);
      return fetchedPage(await delivery.offsets.fetch(group, partitions), partitions.length > 0, page);
    },

    async resetOffsets(command: ResetOffsetsCommand): Promise<ResetOffset[]> {
      await delivery.loaded(command.group);
      return delivery.offsets.reset(command);
    },
  };
}
