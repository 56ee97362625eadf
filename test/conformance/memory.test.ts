import { describe } from 'vitest';
import { MemoryStoreSite } from './memory-site.ts';
import { describeCommits } from './suites/commits.suite.ts';
import { describeCursors } from './suites/cursors.suite.ts';
import { describeGaps } from './suites/gaps.suite.ts';
import { describeGroups } from './suites/groups.suite.ts';
import { describeLives } from './suites/life.suite.ts';
import { describeLog } from './suites/log.suite.ts';
import { describeRebalances } from './suites/rebalances.suite.ts';
import { describeRetention } from './suites/retention.suite.ts';
import { describeSubscriptions } from './suites/subscriptions.suite.ts';
import { describeTopics } from './suites/topics.suite.ts';

const open = (): MemoryStoreSite => new MemoryStoreSite();

describe('in memory', () => {
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
});
