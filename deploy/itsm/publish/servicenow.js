/*
 * Script Include MfaReset: asks for a reset of the caller of a ticket, through RabbitMQ's HTTP API.
 *
 *   new MfaReset().request(current, 1, 'lost-phone')     in an async business rule, or in a script step of a flow
 *
 * In a rule that is not async, whoever saves the ticket waits for the broker.
 *
 * True: the broker has it. Write that down, in a field of your own such as u_mfa_reset_sent. Anything else is an exception: call
 * again with the same ticket and attempt, from a scheduled job that selects by that field the tickets which want a reset and
 * have it false. The id makes that safe; a new attempt is a new reset.
 *
 * System properties: mfa_reset.api (https://rabbitmq.contoso.com:15671), mfa_reset.vhost, mfa_reset.user (the broker user),
 * mfa_reset.auth_profile (sys_id of a basic auth profile with that user).
 */
var MfaReset = Class.create();
MfaReset.prototype = {
    initialize: function () {},

    request: function (ticket, attempt, profile) {
        var assignee = String(ticket.assigned_to.user_name || '');
        if (!assignee) {
            throw new Error('the ticket is assigned to nobody, and so nobody asks');
        }
        var number = String(ticket.getValue('number'));
        var id = number + ':' + attempt;
        var request = {
            id: id,
            ticket: { system: 'servicenow', number: number, id: String(ticket.getUniqueValue()) },
            // Right where user_name is the user principal name. Else take the field that is, or the object id: { object_id: ... }.
            target: { upn: String(ticket.caller_id.user_name) },
            profile: profile,
            requested_by: assignee, // a resend must say the same, so not the user of this session; after a new assignment it is rejected (id_reused)
            requested_at: new Date().toISOString(),
            reason: String(ticket.getValue('short_description'))
        };
        return this._publish('reset', id, number, request);
    },

    _publish: function (lane, id, number, request) {
        var user = gs.getProperty('mfa_reset.user'), api = String(gs.getProperty('mfa_reset.api'));
        if (api.indexOf('https://') !== 0) {
            throw new Error('mfa_reset.api has to be https://');
        }
        var body = JSON.stringify({
            routing_key: lane,
            properties: {
                content_type: 'application/json',
                delivery_mode: 2,
                message_id: id,
                correlation_id: number,
                user_id: user
            },
            payload: JSON.stringify(request),
            payload_encoding: 'string'
        });
        var message = new sn_ws.RESTMessageV2();
        message.setHttpMethod('post');
        message.setEndpoint(api + '/api/exchanges/' +
            encodeURIComponent(gs.getProperty('mfa_reset.vhost')) + '/mfa.requests/publish');
        message.setAuthenticationProfile('basic', gs.getProperty('mfa_reset.auth_profile'));
        message.setRequestHeader('Content-Type', 'application/json');
        // "${" would be taken for a variable of the REST message.
        message.setRequestBody(body.replace(/\$\{/g, '\\u0024{'));
        var response = message.execute();
        var status = response.getStatusCode(), answer = String(response.getBody());
        if (status !== 200 || JSON.parse(answer).routed !== true) {
            throw new Error('the request ' + id + ' was not taken: ' + status + ' ' + answer);
        }
        return true;
    },

    type: 'MfaReset'
};
