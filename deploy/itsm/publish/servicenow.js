/*
 * Script Include MfaReset: asks for a reset of the caller of a ticket, through RabbitMQ's HTTP API.
 *
 *   new MfaReset().request(current, 1, 'lost-phone')     in a business rule, or in a script step of a flow
 *
 * True: the broker has it. Anything else is an exception: call again with the same ticket and attempt, from a scheduled job
 * if need be. The id makes that safe; a new attempt is a new reset.
 *
 * System properties: mfa_reset.api (https://rabbitmq.contoso.com:15671), mfa_reset.vhost, mfa_reset.user (the broker user),
 * mfa_reset.auth_profile (sys_id of a basic auth profile with that user).
 */
var MfaReset = Class.create();
MfaReset.prototype = {
    initialize: function () {},

    request: function (ticket, attempt, profile) {
        var number = String(ticket.getValue('number'));
        var id = number + ':' + attempt;
        var request = {
            id: id,
            ticket: { system: 'servicenow', number: number, id: String(ticket.getUniqueValue()) },
            target: { upn: String(ticket.caller_id.user_name) },
            profile: profile,
            requested_by: String(ticket.assigned_to.user_name), // not the user of this session: a resend must say the same
            requested_at: new Date().toISOString(),
            reason: String(ticket.getValue('short_description'))
        };
        return this._publish('reset', id, number, request);
    },

    _publish: function (lane, id, number, request) {
        var user = gs.getProperty('mfa_reset.user');
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
        message.setEndpoint(gs.getProperty('mfa_reset.api') + '/api/exchanges/' +
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
