import type { Delivery } from '../delivery/delivery.ts';
import type { MemberId } from '../delivery/ports/session.ts';
import type { Log } from '../log/log.ts';
import type { Clock } from '../time/clock.ts';
import type { Caller } from './caller.ts';
import type {
  AssignmentPage,
  CommitOffsetsCommand,
  CommittedOffset,
  FetchedOffset,
  FetchOffsetsCommand,
  GroupFilter,
  GroupPage,
  GroupSummary,
  JoinGroupCommand,
  JoinGroupOutcome,
  MemberDetails,
  ResetOffset,
  ResetOffsetsCommand,
  StoredRebalance,
  SyncGroupCommand,
} from './commands.ts';
import { groupBytes } from './entry-bytes.ts';
import { assignmentPage, groupPage, membersPage, offsetsPage, versionOf } from './group-pages.ts';
import { pageOf, type Page, type PageRequest } from './pages/paging.ts';
import { withAges } from './record-ages.ts';

/** Membership of clients that call JoinGroup, offsets, and the state of groups. */
export function groupService(delivery: Delivery, log: Log, clock: Clock) {
  return {
    async joinGroup(caller: Caller, command: JoinGroupCommand): Promise<JoinGroupOutcome> {
      await delivery.loaded(command.group);
      return delivery.join(caller.host, command);
    },

    async syncGroup(command: SyncGroupCommand, pageToken = ''): Promise<AssignmentPage> {
      await delivery.loaded(command.group);
      return assignmentPage(await delivery.membership.sync(command, versionOf(pageToken)), pageToken);
    },

    async leaveGroup({ group, memberId }: { readonly group: string; readonly memberId: MemberId }): Promise<void> {
      await delivery.loaded(group);
      return delivery.membership.leave(group, memberId);
    },

    async getGroup(name: string, page: PageRequest): Promise<GroupPage> {
      await delivery.loaded(name);
      const shown = groupPage(delivery.views.describe(name), page);
      return { ...shown, partitions: await withAges(shown.partitions, log, clock) };
    },

    async listGroups(filter: GroupFilter, page: PageRequest): Promise<Page<GroupSummary>> {
      await delivery.allLoaded();
      const items = delivery.views.names(filter);
      // Summaries of the page only, because the lag of a group is a sum over its partitions.
      const entryOf = (name: string): GroupSummary => delivery.views.summary(name);
      return pageOf({ items, keyOf: (name) => [name], entryOf, bytesOf: groupBytes }, page);
    },

    async listMembers(
      group: string,
      page: PageRequest,
    ): Promise<Page<MemberDetails> & { readonly generation: number }> {
      await delivery.loaded(group);
      const view = delivery.views.describe(group);
      return { ...membersPage(view, page), generation: view.generation };
    },

    async listRebalances(group: string): Promise<readonly StoredRebalance[]> {
      await delivery.loaded(group);
      return delivery.views.rebalances(group);
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
      const fetched = offsetsPage(partitions, delivery.views.describe(group), delivery.offsets.reader(group), page);
      await delivery.offsets.durable();
      return fetched;
    },

    async resetOffsets(command: ResetOffsetsCommand): Promise<ResetOffset[]> {
      await delivery.loaded(command.group);
      return delivery.offsets.reset(command);
    },
  };
}
