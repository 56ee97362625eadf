import type { DescMethod } from '@bufbuild/protobuf';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';

/** The services of the proto that both edges serve. */
export const servedServices = {
  BrokerService,
  TopicService,
  SubscriptionService,
  GroupService,
  MessageService,
} as const;

type ServiceName = keyof typeof servedServices;

/**
 * What a caller does by an RPC: publish adds records, consume takes them as a member of a group,
 * read changes nothing, manage changes a group or a subscription, admin changes topics.
 */
export type Action = 'publish' | 'consume' | 'read' | 'manage' | 'admin';

/** The action of each RPC. An RPC of the proto without one does not compile. */
const actions: { readonly [S in ServiceName]: { readonly [M in keyof (typeof servedServices)[S]['method']]: Action } } =
  {
    BrokerService: {
      publish: 'publish',
      publishStream: 'publish',
      subscribe: 'consume',
      pull: 'consume',
      ack: 'consume',
      heartbeat: 'consume',
    },
    TopicService: {
      createTopic: 'admin',
      getTopic: 'read',
      getTopicStorage: 'read',
      updateTopic: 'admin',
      addPartitions: 'admin',
      listTopics: 'read',
      deleteTopic: 'admin',
    },
    SubscriptionService: {
      createSubscription: 'manage',
      getSubscription: 'read',
      listSubscriptions: 'read',
      updateSubscription: 'manage',
      pauseSubscription: 'manage',
      resumeSubscription: 'manage',
      cancelSubscription: 'manage',
    },
    GroupService: {
      joinGroup: 'consume',
      syncGroup: 'consume',
      leaveGroup: 'consume',
      getGroup: 'read',
      listGroups: 'read',
      listMembers: 'read',
      listRebalances: 'read',
      deleteGroup: 'manage',
      commitOffsets: 'consume',
      fetchOffsets: 'read',
      resetOffsets: 'manage',
    },
    MessageService: { readMessages: 'read' },
  };

export function actionOf({ parent, localName, name }: DescMethod): Action {
  const action = (actions as Readonly<Record<string, Readonly<Record<string, Action>>>>)[parent.name]?.[localName];
  if (action === undefined) throw new Error(`no action is declared for ${parent.name}/${name}`);
  return action;
}
