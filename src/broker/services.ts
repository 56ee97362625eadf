import type { brokerService } from './broker-service.ts';
import type { groupService } from './group-service.ts';
import type { messageService } from './message-service.ts';
import type { subscriptionService } from './subscription-service.ts';
import type { topicService } from './topic-service.ts';

/**
 * The calls of an open broker: a service for each service of the proto, with one method for each
 * RPC, in plain types. A method rejects with a `Rejection` or a `Fault`; any other error is a bug.
 * The edge has checked the caller and the fields of the request before. A service checks the rules
 * that depend on the state of the broker.
 */
export interface Services {
  readonly broker: ReturnType<typeof brokerService>;
  readonly group: ReturnType<typeof groupService>;
  readonly topic: ReturnType<typeof topicService>;
  readonly subscription: ReturnType<typeof subscriptionService>;
  readonly message: ReturnType<typeof messageService>;
}
