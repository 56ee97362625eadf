import { describe, vi } from 'vitest';
import { PostgresLeaseSite, PostgresStoreSite } from './postgres-site.ts';
import { describeCommits } from './suites/commits.suite.ts';
import { describeCursors } from './suites/cursors.suite.ts';
import { describeGaps } from './suites/gaps.suite.ts';
import { describeGroups } from './suites/groups.suite.ts';
import { describeLease } from './suites/lease.suite.ts';
import { describeLives } from './suites/life.suite.ts';
import { describeLog } from './suites/log.suite.ts';
import { describeRebalances } from './suites/rebalances.suite.ts';
import { describeRetention } from './suites/retention.suite.ts';
import { describeSubscriptions } from './suites/subscriptions.suite.ts';
import { describeTopics } from './suites/topics.suite.ts';

/** A test of many histories takes ten seconds, and longer on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

const open = (): Promise<PostgresStoreSite> => PostgresStoreSite.open();

describe('on PostgreSQL', () => {
  describeTopics(open);
  describeLog(open);
  describeCommits(open);
  describeGroups(open);
  describeRebalances(open);
  describeRetention(open);
  describeSubscriptions(open);
  describeLives(open);
  describeCursors(open);
  describeGaps(open);
  describeLease(() => PostgresLeaseSite.open());
});
