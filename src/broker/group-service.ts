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
    joinGroup(caller: Caller, command: JoinGroupCommand): Promise<JoinGroupOutcome> {
      return delivery.join(caller.host, command);
    },

    syncGroup(command: SyncGroupCommand): Promise<SyncGroupOutcome> {
      return delivery.membership.sync(command);
    },

    leaveGroup({ group, memberId }: { readonly group: string; readonly memberId: MemberId }): Promise<void> {
      return delivery.membership.leave(group, memberId);
    },

    async getGroup(name: string): Promise<GroupDetails> {
      const details = delivery.describe(name);
      return { ...details, partitions: await withAges(details.partitions, log, clock) };
    },

    async listGroups(filter: GroupFilter, page: PageRequest): Promise<Page<GroupSummary>> {
      const { items, nextToken } = pageOf(delivery.names(filter), (name) => name, page);
      // Summaries of the page only, because the lag of a group is a sum over its partitions.
      return { items: items.map((name) => delivery.summary(name)), nextToken };
    },

    async listMembers(
      group: string,
      page: PageRequest,
    ): Promise<Page<MemberDetails> & { readonly generation: number }> {
      const { generation, members } = delivery.members(group);
      return { ...pageOf(members, ({ memberId }): string => memberId, page), generation };
    },

    listRebalances(group: string): Promise<readonly StoredRebalance[]> {
      return delivery.rebalances(group);
    },

    deleteGroup(name: string): Promise<void> {
      return delivery.deleteGroup(name);
    },

    commitOffsets(command: CommitOffsetsCommand): Promise<CommittedOffset[]> {
      return delivery.offsets.commit(command);
    },

    async fetchOffsets({ group, partitions, page }: FetchOffsetsCommand): Promise<Page<FetchedOffset>> {
      return fetchedPage(await delivery.offsets.fetch(group, partitions), partitions.length > 0, page);
    },

    resetOffsets(command: ResetOffsetsCommand): Promise<ResetOffset[]> {
      return delivery.offsets.reset(command);
    },
  };
}
