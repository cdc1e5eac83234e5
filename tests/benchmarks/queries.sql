-- 20 fleets with 10,000 devices, and 1,000,000 rows of what has become of them: 4,000 releases of
-- three services, each device with the images of ten of them, four tags and four variables, and
-- 560,000 entries of the audit log. Written past the rules, which would look at each row.
set session_replication_role = replica;
insert into organization (id, name, handle) overriding system value
    values (1000, 'robots', 'robots');
insert into organization_membership
        (is_member_of__organization, "user", organization_membership_role)
    select 1000, u.id, r.id from "user" u, organization_membership_role r
    where u.username = 'robota' and r.name = 'administrator';
insert into actor (id) overriding system value select 100000 + n from generate_series(1, 11000) n;
insert into application (id, actor, organization, application_type, belongs_to__user, app_name,
        slug, uuid, is_for__device_type)
    overriding system value
    select 1000 + n, 100000 + n, case when n = 1 then 1000 else o.id end, t.id, u.id, 'fleet' || n,
        'bench/fleet' || n, md5('a' || n), d.id
    from generate_series(1, 20) n, application_type t, "user" u, organization o,
        device_type d
    where t.slug = 'microservices' and u.username = 'admin' and o.handle = 'admin'
        and d.slug = 'raspberrypi3-64';
insert into service (id, application, service_name, repository) overriding system value
    select 10000 + n, 1001 + n / 3, 'service' || n % 3, 'v2/' || md5('b' || n)
    from generate_series(0, 59) n;
insert into release (id, belongs_to__application, commit, composition, status, source, revision,
        created_at, build_log)
    overriding system value
    select 10000 + n, 1001 + n % 20, md5('r' || n) || substr(md5('s' || n), 1, 8),
        '{"services": {"main": {"build": "."}}}', 'success', 'git', n / 20,
        now() - make_interval(mins => 4000 - n), repeat('a line of the build' || chr(10), 200)
    from generate_series(0, 3999) n;
update application set should_be_running__release =
    (select max(r.id) from release r where r.belongs_to__application = application.id)
    where id > 1000;
insert into image (id, is_a_build_of__service, is_stored_at__image_location, status, image_size,
        content_hash)
    overriding system value
    select 10000 + n, 10000 + (n / 3 % 20) * 3 + n % 3, 'registry/v2/' || md5('i' || n),
        'success', 1000 + n, 'sha256:' || md5('c' || n) || md5('e' || n)
    from generate_series(0, 11999) n;
insert into release_image (image, is_part_of__release)
    select 10000 + n, 10000 + n / 3 from generate_series(0, 11999) n;
insert into release_tag (release, tag_key, value)
    select 10000 + n, 'branch', 'b' || n % 7 from generate_series(0, 3999) n;
insert into device (id, actor, uuid, device_name, belongs_to__user, belongs_to__application,
        is_of__device_type, is_running__release, is_online, api_heartbeat_state, status, os_version,
        cpu_usage, memory_usage, last_connectivity_event)
    overriding system value
    select 10000 + n, 101000 + n, md5('d' || n), 'robot-' || n, u.id, 1001 + n % 20,
        t.id, 10000 + n % 4000, n % 3 > 0,
        (array['offline', 'online', 'online'])[1 + n % 3], 'Idle',
        'Raspberry Pi OS ' || n % 4, n % 100, n % 1000, now() - make_interval(secs => n)
    from generate_series(0, 9999) n, "user" u, device_type t
    where u.username = 'admin' and t.slug = 'raspberrypi3-64';
insert into device_tag (device, tag_key, value)
    select 10000 + n % 10000, 'tag' || n / 10000, 'v' || n % 13
    from generate_series(0, 39999) n;
insert into device_environment_variable (device, name, value)
    select 10000 + n % 10000, 'NAME_' || n / 10000, md5(n::text)
    from generate_series(0, 39999) n;
insert into service_install (device, installs__service)
    select 10000 + n / 3, 10000 + (n / 3 % 20) * 3 + n % 3
    from generate_series(0, 29999) n;
insert into image_install (device, installs__image, is_provided_by__release, status, install_date)
    select 10000 + d, 10000 + r * 3 + s, 10000 + r,
        case when k = 9 then 'Running' else 'deleted' end,
        now() - make_interval(mins => d % 5000)
    from generate_series(0, 9999) d, generate_series(0, 9) k,
        generate_series(0, 2) s, lateral (select d % 20 + 20 * k as r) x;
insert into audit_entry (organization, actor, actor_name, action, resource, row, row_name, changes,
        created_at)
    select o.id, u.actor, 'user admin', (array['create', 'update', 'delete'])[1 + n % 3],
        (array['device', 'device_tag', 'release'])[1 + n % 3], n % 20000, 'robot-' || n % 10000,
        jsonb_build_object('note', md5(n::text)), now() - make_interval(secs => n)
    from generate_series(0, 559999) n, "user" u, organization o
    where u.username = 'admin' and o.handle = 'admin';
reset session_replication_role;
