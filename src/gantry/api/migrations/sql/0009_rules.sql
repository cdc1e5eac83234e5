do $$
declare ids bigint[]; said text[] := '{}';
begin
    lock table "user", api_key, application, application_environment_variable, application_tag, cpu_architecture, device, device_action, device_environment_variable, device_service_environment_variable, device_tag, device_type, gateway_download, image, image_install, organization, registry_run, release, release_asset, release_image, release_tag, service, service_environment_variable, service_install in share row exclusive mode;
    select array_agg(id order by id) into ids from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE NOT coalesce((own_cpu.slug, fleet_cpu.slug) IN (('aarch64', 'aarch64'), ('aarch64', 'armv7hf'), ('aarch64', 'rpi'), ('armv7hf', 'armv7hf'), ('armv7hf', 'rpi'), ('rpi', 'rpi'), ('amd64', 'amd64')), false)
    ) as broken;
    if ids is not null then
        said := said || ('device_type_fits: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_pinned_on__release
        WHERE device.is_pinned_on__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND wanted.belongs_to__application = device.belongs_to__application, false)
    ) as broken;
    if ids is not null then
        said := said || ('pin_fits: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN release AS wanted ON wanted.id = application.should_be_running__release
        WHERE application.should_be_running__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.is_final AND NOT wanted.is_invalidated AND wanted.images_removed_timestamp IS NULL AND wanted.belongs_to__application = application.id, false)
    ) as broken;
    if ids is not null then
        said := said || ('target_fits: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_running__release
        WHERE device.is_running__release IS NOT NULL AND NOT coalesce(wanted.belongs_to__application = device.belongs_to__application, false)
    ) as broken;
    if ids is not null then
        said := said || ('running_release_fits: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.should_be_managed_by__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND supervisor.is_public AND supervisor.app_name ~ '-supervisor$' AND own_type.is_of__cpu_architecture = fleet_type.is_of__cpu_architecture, false)
    ) as broken;
    if ids is not null then
        said := said || ('supervisor_fits: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT service_install.id
        FROM service_install
        LEFT OUTER JOIN device AS owner ON owner.id = service_install.device
        LEFT OUTER JOIN service AS built ON built.id = service_install.installs__service
        WHERE NOT coalesce(built.application = owner.belongs_to__application, false)
    ) as broken;
    if ids is not null then
        said := said || ('installed_service_fits: service_install '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device where not (uuid ~ '^[0-9a-f]{32}([0-9a-f]{30})?$')
    ) as broken;
    if ids is not null then
        said := said || ('device_uuid: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device where not (length(device_name) between 1 and 255)
    ) as broken;
    if ids is not null then
        said := said || ('device_name: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device where not (custom_latitude ~ '^(-?[0-9]{1,3}([.][0-9]{1,20})?)?$')
    ) as broken;
    if ids is not null then
        said := said || ('custom_location: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device where not (custom_longitude ~ '^(-?[0-9]{1,3}([.][0-9]{1,20})?)?$')
    ) as broken;
    if ids is not null then
        said := said || ('custom_location: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application where not (reachable_ports ~ '^([0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*)?$')
    ) as broken;
    if ids is not null then
        said := said || ('reachable_ports: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device where not (reachable_ports ~ '^([0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*)?$')
    ) as broken;
    if ids is not null then
        said := said || ('reachable_ports: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device where not (api_heartbeat_state in ('unknown', 'online', 'timeout', 'offline'))
    ) as broken;
    if ids is not null then
        said := said || ('heartbeat_state: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application where not (app_name ~ '^[A-Za-z][A-Za-z0-9_-]{3,99}$')
    ) as broken;
    if ids is not null then
        said := said || ('application_name: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN organization AS owning ON owning.id = application.organization
        WHERE NOT coalesce(application.slug = (owning.handle || '/' || lower(application.app_name)), false)
    ) as broken;
    if ids is not null then
        said := said || ('application_slug: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application where not (uuid ~ '^[0-9a-f]{32}$')
    ) as broken;
    if ids is not null then
        said := said || ('application_uuid: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application where not (is_of__class in ('fleet', 'block', 'app'))
    ) as broken;
    if ids is not null then
        said := said || ('application_class: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_action where not (action in ('restart', 'start-service', 'stop-service', 'restart-service', 'purge', 'reboot', 'shutdown', 'update', 'identify'))
    ) as broken;
    if ids is not null then
        said := said || ('action_kind: device_action '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_action where not ((action in ('start-service', 'stop-service', 'restart-service')) = (coalesce(parameters ->> 'service', '') <> ''))
    ) as broken;
    if ids is not null then
        said := said || ('action_service: device_action '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_action where not (status in ('pending', 'running', 'done', 'failed', 'expired', 'cancelled'))
    ) as broken;
    if ids is not null then
        said := said || ('action_status: device_action '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_action where not (expires_at between created_at + interval '1 minute' and created_at + interval '30 days')
    ) as broken;
    if ids is not null then
        said := said || ('action_expiry: device_action '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_action where not ((ended_at is null) = (status in ('pending', 'running')))
    ) as broken;
    if ids is not null then
        said := said || ('action_end: device_action '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release where not (images_removed_timestamp is null or status <> 'running')
    ) as broken;
    if ids is not null then
        said := said || ('images_removed: release '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release where not (commit ~ '^[0-9a-f]{7,64}$')
    ) as broken;
    if ids is not null then
        said := said || ('commit: release '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release where not (status in ('running', 'success', 'failed', 'cancelled'))
    ) as broken;
    if ids is not null then
        said := said || ('status: release '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from image where not (status in ('running', 'success', 'failed', 'cancelled'))
    ) as broken;
    if ids is not null then
        said := said || ('status: image '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release where not (phase in ('next', 'current', 'sunset', 'end-of-life'))
    ) as broken;
    if ids is not null then
        said := said || ('phase: release '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release where not (semver ~ '^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$')
    ) as broken;
    if ids is not null then
        said := said || ('semver: release '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM release_image AS other_part, image AS other_image
        WHERE other_part.is_part_of__release = release_image.is_part_of__release AND other_part.id != release_image.id AND other_image.id = other_part.image AND other_image.is_a_build_of__service = part.is_a_build_of__service)), false)
    ) as broken;
    if ids is not null then
        said := said || ('one_image_a_service: release_image '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE NOT coalesce(built.application = whole.belongs_to__application, false)
    ) as broken;
    if ids is not null then
        said := said || ('image_fits: release_image '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from image where not (content_hash ~ '^sha256:[0-9a-f]{64}$')
    ) as broken;
    if ids is not null then
        said := said || ('image_digest: image '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from image where not (status <> 'success' or content_hash is not null)
    ) as broken;
    if ids is not null then
        said := said || ('image_digest: image '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from service where not (service_name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$')
    ) as broken;
    if ids is not null then
        said := said || ('service_name: service '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from service where not (repository ~ '^v2/[0-9a-f]{32}$')
    ) as broken;
    if ids is not null then
        said := said || ('repository: service '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from image_install where not (download_progress between 0 and 100)
    ) as broken;
    if ids is not null then
        said := said || ('download_progress: image_install '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from gateway_download where not (download_progress between 0 and 100)
    ) as broken;
    if ids is not null then
        said := said || ('download_progress: gateway_download '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release_asset where not (asset_key ~ '^[A-Za-z0-9._/-]{1,255}$')
    ) as broken;
    if ids is not null then
        said := said || ('asset_key: release_asset '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from registry_run where not (kind in ('survey', 'collect', 'free'))
    ) as broken;
    if ids is not null then
        said := said || ('registry_run_kind: registry_run '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from registry_run where not (status in ('ordered', 'running', 'done', 'failed'))
    ) as broken;
    if ids is not null then
        said := said || ('registry_run_status: registry_run '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application_environment_variable where not (name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255)
    ) as broken;
    if ids is not null then
        said := said || ('variable_name: application_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_environment_variable where not (name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255)
    ) as broken;
    if ids is not null then
        said := said || ('variable_name: device_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from service_environment_variable where not (name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255)
    ) as broken;
    if ids is not null then
        said := said || ('variable_name: service_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_service_environment_variable where not (name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and length(name) <= 255)
    ) as broken;
    if ids is not null then
        said := said || ('variable_name: device_service_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application_environment_variable where not (name !~ '^(RESIN|BALENA)(_|$)' or name ~ '^(RESIN|BALENA)_((HOST|SUPERVISOR)_[A-Za-z0-9_]+|OVERRIDE_LOCK)$')
    ) as broken;
    if ids is not null then
        said := said || ('variable_reserved: application_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_environment_variable where not (name !~ '^(RESIN|BALENA)(_|$)' or name ~ '^(RESIN|BALENA)_((HOST|SUPERVISOR)_[A-Za-z0-9_]+|OVERRIDE_LOCK)$')
    ) as broken;
    if ids is not null then
        said := said || ('variable_reserved: device_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from service_environment_variable where not (name !~ '^(RESIN|BALENA)(_|$)')
    ) as broken;
    if ids is not null then
        said := said || ('service_variable_reserved: service_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_service_environment_variable where not (name !~ '^(RESIN|BALENA)(_|$)')
    ) as broken;
    if ids is not null then
        said := said || ('service_variable_reserved: device_service_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application_environment_variable where not (octet_length(value) <= 100000)
    ) as broken;
    if ids is not null then
        said := said || ('variable_value: application_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_environment_variable where not (octet_length(value) <= 100000)
    ) as broken;
    if ids is not null then
        said := said || ('variable_value: device_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from service_environment_variable where not (octet_length(value) <= 100000)
    ) as broken;
    if ids is not null then
        said := said || ('variable_value: service_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_service_environment_variable where not (octet_length(value) <= 100000)
    ) as broken;
    if ids is not null then
        said := said || ('variable_value: device_service_environment_variable '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application_tag where not (tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100)
    ) as broken;
    if ids is not null then
        said := said || ('tag_key: application_tag '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_tag where not (tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100)
    ) as broken;
    if ids is not null then
        said := said || ('tag_key: device_tag '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release_tag where not (tag_key ~ '^[^[:space:]]+$' and length(tag_key) <= 100)
    ) as broken;
    if ids is not null then
        said := said || ('tag_key: release_tag '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from application_tag where not (length(value) <= 1000)
    ) as broken;
    if ids is not null then
        said := said || ('tag_value: application_tag '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from device_tag where not (length(value) <= 1000)
    ) as broken;
    if ids is not null then
        said := said || ('tag_value: device_tag '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from release_tag where not (length(value) <= 1000)
    ) as broken;
    if ids is not null then
        said := said || ('tag_value: release_tag '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from "user" where not (username ~ '^[a-z][a-z0-9_-]{1,30}$')
    ) as broken;
    if ids is not null then
        said := said || ('username: "user" '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from organization where not (handle ~ '^[a-z0-9][a-z0-9_-]{1,30}$')
    ) as broken;
    if ids is not null then
        said := said || ('handle: organization '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from organization where not (length(name) between 1 and 255)
    ) as broken;
    if ids is not null then
        said := said || ('organization_name: organization '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT "user".id
        FROM "user"
        LEFT OUTER JOIN actor AS acting ON acting.id = "user".actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM application
        WHERE application.actor = "user".actor)) AND NOT (EXISTS (SELECT *
        FROM device
        WHERE device.actor = "user".actor)), false)
    ) as broken;
    if ids is not null then
        said := said || ('one_actor: "user" '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN actor AS acting ON acting.id = application.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM "user"
        WHERE "user".actor = application.actor)) AND NOT (EXISTS (SELECT *
        FROM device
        WHERE device.actor = application.actor)), false)
    ) as broken;
    if ids is not null then
        said := said || ('one_actor: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN actor AS acting ON acting.id = device.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM "user"
        WHERE "user".actor = device.actor)) AND NOT (EXISTS (SELECT *
        FROM application
        WHERE application.actor = device.actor)), false)
    ) as broken;
    if ids is not null then
        said := said || ('one_actor: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
select id from api_key where not (role in ('user', 'device', 'provisioning'))
    ) as broken;
    if ids is not null then
        said := said || ('key_role: api_key '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT api_key.id
        FROM api_key
        LEFT OUTER JOIN actor AS acting ON acting.id = api_key.is_of__actor
        WHERE NOT coalesce((api_key.role = 'user' OR NOT (EXISTS (SELECT *
        FROM "user"
        WHERE "user".actor = api_key.is_of__actor))) AND (api_key.role = 'provisioning' OR NOT (EXISTS (SELECT *
        FROM application
        WHERE application.actor = api_key.is_of__actor))) AND (api_key.role = 'device' OR NOT (EXISTS (SELECT *
        FROM device
        WHERE device.actor = api_key.is_of__actor))), false)
    ) as broken;
    if ids is not null then
        said := said || ('key_fits_actor: api_key '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT "user".id
        FROM "user"
        LEFT OUTER JOIN actor AS acting ON acting.id = "user".actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM api_key
        WHERE api_key.is_of__actor = "user".actor AND api_key.role != 'user')), false)
    ) as broken;
    if ids is not null then
        said := said || ('key_fits_actor: "user" '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN actor AS acting ON acting.id = application.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM api_key
        WHERE api_key.is_of__actor = application.actor AND api_key.role != 'provisioning')), false)
    ) as broken;
    if ids is not null then
        said := said || ('key_fits_actor: application '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    select array_agg(id order by id) into ids from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN actor AS acting ON acting.id = device.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM api_key
        WHERE api_key.is_of__actor = device.actor AND api_key.role != 'device')), false)
    ) as broken;
    if ids is not null then
        said := said || ('key_fits_actor: device '
            || array_to_string(ids[1:20], ', ')
            || case when cardinality(ids) > 20
                then ' of ' || cardinality(ids) else '' end);
    end if;
    if said <> '{}' then
        raise exception using errcode = 'check_violation', message =
            'rows break rules; correct them, then start again: '
            || array_to_string(said, '; ');
    end if;
end $$;
create function rule_break(rule text, sentence text, subject text, ids bigint[]) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using errcode = 'check_violation', message = sentence,
        constraint = 'rule_' || rule, table = subject,
        detail = jsonb_build_object(
            'ids', to_jsonb(ids[1:20]), 'count', cardinality(ids))::text;
end $$;
create function rule_isolation() returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    -- A snapshot that is older than the locks does not see what others have committed.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using errcode = 'feature_not_supported',
            message = 'changes that rules speak of need the isolation level read committed';
    end if;
end $$;
create function rule_device_type_fits_device_device() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, belongs_to__application, is_of__device_type from new_rows
            except select id, belongs_to__application, is_of__device_type from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from application where id in (
        SELECT device.belongs_to__application
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from device_type where id in (
        SELECT device.is_of__device_type
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from device_type where id in (
        SELECT fleet.is_for__device_type
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from cpu_architecture where id in (
        SELECT own_type.is_of__cpu_architecture
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from cpu_architecture where id in (
        SELECT fleet_type.is_of__cpu_architecture
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE NOT coalesce((own_cpu.slug, fleet_cpu.slug) IN (('aarch64', 'aarch64'), ('aarch64', 'armv7hf'), ('aarch64', 'rpi'), ('armv7hf', 'armv7hf'), ('armv7hf', 'rpi'), ('rpi', 'rpi'), ('amd64', 'amd64')), false) AND device.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('device_type_fits', 'It is necessary that each device is of a device type that runs what is built for the device type of the device''s application.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_device_type_fits_device_insert after insert on device
    referencing new table as new_rows
    for each statement execute function rule_device_type_fits_device_device();
create trigger rule_device_type_fits_device_update after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_device_type_fits_device_device();
create function rule_device_type_fits_device_application() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, is_for__device_type from new_rows
            except select id, is_for__device_type from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from device_type where id in (
        SELECT fleet.is_for__device_type
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE fleet.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from cpu_architecture where id in (
        SELECT fleet_type.is_of__cpu_architecture
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE fleet.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE NOT coalesce((own_cpu.slug, fleet_cpu.slug) IN (('aarch64', 'aarch64'), ('aarch64', 'armv7hf'), ('aarch64', 'rpi'), ('armv7hf', 'armv7hf'), ('armv7hf', 'rpi'), ('rpi', 'rpi'), ('amd64', 'amd64')), false) AND fleet.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('device_type_fits', 'It is necessary that each device is of a device type that runs what is built for the device type of the device''s application.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_device_type_fits_device_update after update on application
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_device_type_fits_device_application();
create function rule_device_type_fits_device_device_type() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, is_of__cpu_architecture from new_rows
            except select id, is_of__cpu_architecture from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from cpu_architecture where id in (
        SELECT own_type.is_of__cpu_architecture
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE own_type.id IN (SELECT unnest(changed) AS unnest_1) OR fleet_type.id IN (SELECT unnest(changed) AS unnest_2)
    ) order by id for share;
    perform from cpu_architecture where id in (
        SELECT fleet_type.is_of__cpu_architecture
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE own_type.id IN (SELECT unnest(changed) AS unnest_1) OR fleet_type.id IN (SELECT unnest(changed) AS unnest_2)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE NOT coalesce((own_cpu.slug, fleet_cpu.slug) IN (('aarch64', 'aarch64'), ('aarch64', 'armv7hf'), ('aarch64', 'rpi'), ('armv7hf', 'armv7hf'), ('armv7hf', 'rpi'), ('rpi', 'rpi'), ('amd64', 'amd64')), false) AND (own_type.id IN (SELECT unnest(changed) AS unnest_1) OR fleet_type.id IN (SELECT unnest(changed) AS unnest_2))
    ) as each;
    if broken is not null then
        perform rule_break('device_type_fits', 'It is necessary that each device is of a device type that runs what is built for the device type of the device''s application.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_device_type_fits_device_update after update on device_type
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_device_type_fits_device_device_type();
create function rule_device_type_fits_device_cpu_architecture() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, slug from new_rows
            except select id, slug from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN application AS fleet ON fleet.id = device.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = fleet.is_for__device_type
        LEFT OUTER JOIN cpu_architecture AS own_cpu ON own_cpu.id = own_type.is_of__cpu_architecture
        LEFT OUTER JOIN cpu_architecture AS fleet_cpu ON fleet_cpu.id = fleet_type.is_of__cpu_architecture
        WHERE NOT coalesce((own_cpu.slug, fleet_cpu.slug) IN (('aarch64', 'aarch64'), ('aarch64', 'armv7hf'), ('aarch64', 'rpi'), ('armv7hf', 'armv7hf'), ('armv7hf', 'rpi'), ('rpi', 'rpi'), ('amd64', 'amd64')), false) AND (own_cpu.id IN (SELECT unnest(changed) AS unnest_1) OR fleet_cpu.id IN (SELECT unnest(changed) AS unnest_2))
    ) as each;
    if broken is not null then
        perform rule_break('device_type_fits', 'It is necessary that each device is of a device type that runs what is built for the device type of the device''s application.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_device_type_fits_device_update after update on cpu_architecture
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_device_type_fits_device_cpu_architecture();
create function rule_pin_fits_device_device() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, belongs_to__application, is_pinned_on__release from new_rows
            except select id, belongs_to__application, is_pinned_on__release from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from release where id in (
        SELECT device.is_pinned_on__release
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_pinned_on__release
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_pinned_on__release
        WHERE device.is_pinned_on__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND wanted.belongs_to__application = device.belongs_to__application, false) AND device.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('pin_fits', 'It is necessary that each release that a device is pinned on belongs to the device''s application, is a success and has not had its images removed.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_pin_fits_device_insert after insert on device
    referencing new table as new_rows
    for each statement execute function rule_pin_fits_device_device();
create trigger rule_pin_fits_device_update after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_pin_fits_device_device();
create function rule_pin_fits_device_release() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, belongs_to__application, images_removed_timestamp, status from new_rows
            except select id, belongs_to__application, images_removed_timestamp, status from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_pinned_on__release
        WHERE device.is_pinned_on__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND wanted.belongs_to__application = device.belongs_to__application, false) AND wanted.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('pin_fits', 'It is necessary that each release that a device is pinned on belongs to the device''s application, is a success and has not had its images removed.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_pin_fits_device_update after update on release
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_pin_fits_device_release();
create function rule_target_fits_application_application() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, should_be_running__release from new_rows
            except select id, should_be_running__release from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from release where id in (
        SELECT application.should_be_running__release
        FROM application
        LEFT OUTER JOIN release AS wanted ON wanted.id = application.should_be_running__release
        WHERE application.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN release AS wanted ON wanted.id = application.should_be_running__release
        WHERE application.should_be_running__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.is_final AND NOT wanted.is_invalidated AND wanted.images_removed_timestamp IS NULL AND wanted.belongs_to__application = application.id, false) AND application.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('target_fits', 'It is necessary that each release that an application should be running belongs to the application, is a success, is final, is not invalidated and has not had its images removed.',
            'application', broken);
    end if;
    return null;
end $$;
create trigger rule_target_fits_application_insert after insert on application
    referencing new table as new_rows
    for each statement execute function rule_target_fits_application_application();
create trigger rule_target_fits_application_update after update on application
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_target_fits_application_application();
create function rule_target_fits_application_release() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, belongs_to__application, images_removed_timestamp, is_final, is_invalidated, status from new_rows
            except select id, belongs_to__application, images_removed_timestamp, is_final, is_invalidated, status from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN release AS wanted ON wanted.id = application.should_be_running__release
        WHERE application.should_be_running__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.is_final AND NOT wanted.is_invalidated AND wanted.images_removed_timestamp IS NULL AND wanted.belongs_to__application = application.id, false) AND wanted.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('target_fits', 'It is necessary that each release that an application should be running belongs to the application, is a success, is final, is not invalidated and has not had its images removed.',
            'application', broken);
    end if;
    return null;
end $$;
create trigger rule_target_fits_application_update after update on release
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_target_fits_application_release();
create function rule_running_release_fits_device_device() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, belongs_to__application, is_running__release from new_rows
            except select id, belongs_to__application, is_running__release from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from release where id in (
        SELECT device.is_running__release
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_running__release
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_running__release
        WHERE device.is_running__release IS NOT NULL AND NOT coalesce(wanted.belongs_to__application = device.belongs_to__application, false) AND device.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('running_release_fits', 'It is necessary that each release that a device is running belongs to the device''s application.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_running_release_fits_device_insert after insert on device
    referencing new table as new_rows
    for each statement execute function rule_running_release_fits_device_device();
create trigger rule_running_release_fits_device_update after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_running_release_fits_device_device();
create function rule_running_release_fits_device_release() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, belongs_to__application from new_rows
            except select id, belongs_to__application from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.is_running__release
        WHERE device.is_running__release IS NOT NULL AND NOT coalesce(wanted.belongs_to__application = device.belongs_to__application, false) AND wanted.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('running_release_fits', 'It is necessary that each release that a device is running belongs to the device''s application.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_running_release_fits_device_update after update on release
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_running_release_fits_device_release();
create function rule_supervisor_fits_device_device() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, is_of__device_type, should_be_managed_by__release from new_rows
            except select id, is_of__device_type, should_be_managed_by__release from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from release where id in (
        SELECT device.should_be_managed_by__release
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from application where id in (
        SELECT wanted.belongs_to__application
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from device_type where id in (
        SELECT device.is_of__device_type
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from device_type where id in (
        SELECT supervisor.is_for__device_type
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.should_be_managed_by__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND supervisor.is_public AND supervisor.app_name ~ '-supervisor$' AND own_type.is_of__cpu_architecture = fleet_type.is_of__cpu_architecture, false) AND device.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('supervisor_fits', 'It is necessary that each release that should manage a device is a success of a public application of supervisors that is for the CPU architecture of the device''s type, and has not had its images removed.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_supervisor_fits_device_insert after insert on device
    referencing new table as new_rows
    for each statement execute function rule_supervisor_fits_device_device();
create trigger rule_supervisor_fits_device_update after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_supervisor_fits_device_device();
create function rule_supervisor_fits_device_release() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, belongs_to__application, images_removed_timestamp, status from new_rows
            except select id, belongs_to__application, images_removed_timestamp, status from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from application where id in (
        SELECT wanted.belongs_to__application
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE wanted.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from device_type where id in (
        SELECT supervisor.is_for__device_type
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE wanted.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.should_be_managed_by__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND supervisor.is_public AND supervisor.app_name ~ '-supervisor$' AND own_type.is_of__cpu_architecture = fleet_type.is_of__cpu_architecture, false) AND wanted.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('supervisor_fits', 'It is necessary that each release that should manage a device is a success of a public application of supervisors that is for the CPU architecture of the device''s type, and has not had its images removed.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_supervisor_fits_device_update after update on release
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_supervisor_fits_device_release();
create function rule_supervisor_fits_device_application() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, app_name, is_for__device_type, is_public from new_rows
            except select id, app_name, is_for__device_type, is_public from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from device_type where id in (
        SELECT supervisor.is_for__device_type
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE supervisor.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.should_be_managed_by__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND supervisor.is_public AND supervisor.app_name ~ '-supervisor$' AND own_type.is_of__cpu_architecture = fleet_type.is_of__cpu_architecture, false) AND supervisor.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('supervisor_fits', 'It is necessary that each release that should manage a device is a success of a public application of supervisors that is for the CPU architecture of the device''s type, and has not had its images removed.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_supervisor_fits_device_update after update on application
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_supervisor_fits_device_application();
create function rule_supervisor_fits_device_device_type() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, is_of__cpu_architecture from new_rows
            except select id, is_of__cpu_architecture from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN release AS wanted ON wanted.id = device.should_be_managed_by__release
        LEFT OUTER JOIN application AS supervisor ON supervisor.id = wanted.belongs_to__application
        LEFT OUTER JOIN device_type AS own_type ON own_type.id = device.is_of__device_type
        LEFT OUTER JOIN device_type AS fleet_type ON fleet_type.id = supervisor.is_for__device_type
        WHERE device.should_be_managed_by__release IS NOT NULL AND NOT coalesce(wanted.status = 'success' AND wanted.images_removed_timestamp IS NULL AND supervisor.is_public AND supervisor.app_name ~ '-supervisor$' AND own_type.is_of__cpu_architecture = fleet_type.is_of__cpu_architecture, false) AND (own_type.id IN (SELECT unnest(changed) AS unnest_1) OR fleet_type.id IN (SELECT unnest(changed) AS unnest_2))
    ) as each;
    if broken is not null then
        perform rule_break('supervisor_fits', 'It is necessary that each release that should manage a device is a success of a public application of supervisors that is for the CPU architecture of the device''s type, and has not had its images removed.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_supervisor_fits_device_update after update on device_type
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_supervisor_fits_device_device_type();
create function rule_move_clears_is_pinned_on__release() returns trigger
language plpgsql set search_path = public, pg_temp as $$
begin
    if new.is_pinned_on__release = old.is_pinned_on__release and not exists (
        SELECT wanted.id
        FROM release AS wanted
        WHERE wanted.id = new.is_pinned_on__release AND wanted.belongs_to__application = new.belongs_to__application
    ) then
        new.is_pinned_on__release := null;
    end if;
    return new;
end $$;
create trigger rule_move_clears_is_pinned_on__release before update of belongs_to__application on device
    for each row when (new.belongs_to__application is distinct from old.belongs_to__application)
    execute function rule_move_clears_is_pinned_on__release();
create function rule_move_clears_is_running__release() returns trigger
language plpgsql set search_path = public, pg_temp as $$
begin
    if new.is_running__release = old.is_running__release and not exists (
        SELECT wanted.id
        FROM release AS wanted
        WHERE wanted.id = new.is_running__release AND wanted.belongs_to__application = new.belongs_to__application
    ) then
        new.is_running__release := null;
    end if;
    return new;
end $$;
create trigger rule_move_clears_is_running__release before update of belongs_to__application on device
    for each row when (new.belongs_to__application is distinct from old.belongs_to__application)
    execute function rule_move_clears_is_running__release();
create function rule_move_forgets_service_install() returns trigger
language plpgsql set search_path = public, pg_temp as $$
begin
    delete from service_install where device in (
        select id from (
            select id, belongs_to__application from new_rows
            except select id, belongs_to__application from old_rows
        ) as each);
    return null;
end $$;
create trigger before_rule_move_forgets_service_install after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_move_forgets_service_install();
create function rule_move_forgets_image_install() returns trigger
language plpgsql set search_path = public, pg_temp as $$
begin
    delete from image_install where device in (
        select id from (
            select id, belongs_to__application from new_rows
            except select id, belongs_to__application from old_rows
        ) as each);
    return null;
end $$;
create trigger before_rule_move_forgets_image_install after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_move_forgets_image_install();
create function rule_installed_service_fits_service_install_service_install() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, device, installs__service from new_rows
            except select id, device, installs__service from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from device where id in (
        SELECT service_install.device
        FROM service_install
        LEFT OUTER JOIN device AS owner ON owner.id = service_install.device
        LEFT OUTER JOIN service AS built ON built.id = service_install.installs__service
        WHERE service_install.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from service where id in (
        SELECT service_install.installs__service
        FROM service_install
        LEFT OUTER JOIN device AS owner ON owner.id = service_install.device
        LEFT OUTER JOIN service AS built ON built.id = service_install.installs__service
        WHERE service_install.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT service_install.id
        FROM service_install
        LEFT OUTER JOIN device AS owner ON owner.id = service_install.device
        LEFT OUTER JOIN service AS built ON built.id = service_install.installs__service
        WHERE NOT coalesce(built.application = owner.belongs_to__application, false) AND service_install.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('installed_service_fits', 'It is necessary that each service that a device has installed belongs to the device''s application.',
            'service_install', broken);
    end if;
    return null;
end $$;
create trigger rule_installed_service_fits_service_install_insert after insert on service_install
    referencing new table as new_rows
    for each statement execute function rule_installed_service_fits_service_install_service_install();
create trigger rule_installed_service_fits_service_install_update after update on service_install
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_installed_service_fits_service_install_service_install();
create function rule_installed_service_fits_service_install_device() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, belongs_to__application from new_rows
            except select id, belongs_to__application from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT service_install.id
        FROM service_install
        LEFT OUTER JOIN device AS owner ON owner.id = service_install.device
        LEFT OUTER JOIN service AS built ON built.id = service_install.installs__service
        WHERE NOT coalesce(built.application = owner.belongs_to__application, false) AND owner.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('installed_service_fits', 'It is necessary that each service that a device has installed belongs to the device''s application.',
            'service_install', broken);
    end if;
    return null;
end $$;
create trigger rule_installed_service_fits_service_install_update after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_installed_service_fits_service_install_device();
create function rule_installed_service_fits_service_install_service() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, application from new_rows
            except select id, application from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT service_install.id
        FROM service_install
        LEFT OUTER JOIN device AS owner ON owner.id = service_install.device
        LEFT OUTER JOIN service AS built ON built.id = service_install.installs__service
        WHERE NOT coalesce(built.application = owner.belongs_to__application, false) AND built.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('installed_service_fits', 'It is necessary that each service that a device has installed belongs to the device''s application.',
            'service_install', broken);
    end if;
    return null;
end $$;
create trigger rule_installed_service_fits_service_install_update after update on service
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_installed_service_fits_service_install_service();
create function rule_application_slug_application_application() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, app_name, organization, slug from new_rows
            except select id, app_name, organization, slug from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from organization where id in (
        SELECT application.organization
        FROM application
        LEFT OUTER JOIN organization AS owning ON owning.id = application.organization
        WHERE application.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN organization AS owning ON owning.id = application.organization
        WHERE NOT coalesce(application.slug = (owning.handle || '/' || lower(application.app_name)), false) AND application.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('application_slug', 'It is necessary that the slug of each application is the handle of its organization, a slash, and the application''s name in lower case.',
            'application', broken);
    end if;
    return null;
end $$;
create trigger rule_application_slug_application_insert after insert on application
    referencing new table as new_rows
    for each statement execute function rule_application_slug_application_application();
create trigger rule_application_slug_application_update after update on application
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_application_slug_application_application();
create function rule_application_slug_application_organization() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, handle from new_rows
            except select id, handle from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN organization AS owning ON owning.id = application.organization
        WHERE NOT coalesce(application.slug = (owning.handle || '/' || lower(application.app_name)), false) AND owning.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('application_slug', 'It is necessary that the slug of each application is the handle of its organization, a slash, and the application''s name in lower case.',
            'application', broken);
    end if;
    return null;
end $$;
create trigger rule_application_slug_application_update after update on organization
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_application_slug_application_organization();
create function rule_one_image_a_service_release_image_release_image() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, image, is_part_of__release from new_rows
            except select id, image, is_part_of__release from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from release where id in (
        SELECT release_image.is_part_of__release
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        WHERE release_image.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    perform from image where id in (
        SELECT release_image.image
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        WHERE release_image.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM release_image AS other_part, image AS other_image
        WHERE other_part.is_part_of__release = release_image.is_part_of__release AND other_part.id != release_image.id AND other_image.id = other_part.image AND other_image.is_a_build_of__service = part.is_a_build_of__service)), false) AND release_image.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('one_image_a_service', 'It is necessary that each release has at most one image of a service.',
            'release_image', broken);
    end if;
    return null;
end $$;
create trigger rule_one_image_a_service_release_image_insert after insert on release_image
    referencing new table as new_rows
    for each statement execute function rule_one_image_a_service_release_image_release_image();
create trigger rule_one_image_a_service_release_image_update after update on release_image
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_one_image_a_service_release_image_release_image();
create function rule_one_image_a_service_release_image_image() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, is_a_build_of__service from new_rows
            except select id, is_a_build_of__service from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from release where id in (
        SELECT release_image.is_part_of__release
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        WHERE part.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM release_image AS other_part, image AS other_image
        WHERE other_part.is_part_of__release = release_image.is_part_of__release AND other_part.id != release_image.id AND other_image.id = other_part.image AND other_image.is_a_build_of__service = part.is_a_build_of__service)), false) AND part.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('one_image_a_service', 'It is necessary that each release has at most one image of a service.',
            'release_image', broken);
    end if;
    return null;
end $$;
create trigger rule_one_image_a_service_release_image_update after update on image
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_one_image_a_service_release_image_image();
create function rule_image_fits_release_image_release_image() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, image, is_part_of__release from new_rows
            except select id, image, is_part_of__release from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from release where id in (
        SELECT release_image.is_part_of__release
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE release_image.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from image where id in (
        SELECT release_image.image
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE release_image.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    perform from service where id in (
        SELECT part.is_a_build_of__service
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE release_image.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE NOT coalesce(built.application = whole.belongs_to__application, false) AND release_image.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('image_fits', 'It is necessary that each image of a release is a build of a service of the release''s application.',
            'release_image', broken);
    end if;
    return null;
end $$;
create trigger rule_image_fits_release_image_insert after insert on release_image
    referencing new table as new_rows
    for each statement execute function rule_image_fits_release_image_release_image();
create trigger rule_image_fits_release_image_update after update on release_image
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_image_fits_release_image_release_image();
create function rule_image_fits_release_image_release() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, belongs_to__application from new_rows
            except select id, belongs_to__application from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE NOT coalesce(built.application = whole.belongs_to__application, false) AND whole.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('image_fits', 'It is necessary that each image of a release is a build of a service of the release''s application.',
            'release_image', broken);
    end if;
    return null;
end $$;
create trigger rule_image_fits_release_image_update after update on release
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_image_fits_release_image_release();
create function rule_image_fits_release_image_image() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, is_a_build_of__service from new_rows
            except select id, is_a_build_of__service from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from service where id in (
        SELECT part.is_a_build_of__service
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE part.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for share;
    select array_agg(id order by id) into broken from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE NOT coalesce(built.application = whole.belongs_to__application, false) AND part.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('image_fits', 'It is necessary that each image of a release is a build of a service of the release''s application.',
            'release_image', broken);
    end if;
    return null;
end $$;
create trigger rule_image_fits_release_image_update after update on image
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_image_fits_release_image_image();
create function rule_image_fits_release_image_service() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    select array_agg(id) into changed from (
            select id, application from new_rows
            except select id, application from old_rows
        ) as each;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    select array_agg(id order by id) into broken from (
        SELECT release_image.id
        FROM release_image
        LEFT OUTER JOIN release AS whole ON whole.id = release_image.is_part_of__release
        LEFT OUTER JOIN image AS part ON part.id = release_image.image
        LEFT OUTER JOIN service AS built ON built.id = part.is_a_build_of__service
        WHERE NOT coalesce(built.application = whole.belongs_to__application, false) AND built.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('image_fits', 'It is necessary that each image of a release is a build of a service of the release''s application.',
            'release_image', broken);
    end if;
    return null;
end $$;
create trigger rule_image_fits_release_image_update after update on service
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_image_fits_release_image_service();
create function rule_one_actor_user_user() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, actor from new_rows
            except select id, actor from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from actor where id in (
        SELECT "user".actor
        FROM "user"
        LEFT OUTER JOIN actor AS acting ON acting.id = "user".actor
        WHERE "user".id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT "user".id
        FROM "user"
        LEFT OUTER JOIN actor AS acting ON acting.id = "user".actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM application
        WHERE application.actor = "user".actor)) AND NOT (EXISTS (SELECT *
        FROM device
        WHERE device.actor = "user".actor)), false) AND "user".id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('one_actor', 'It is necessary that each actor is at most one user, application or device.',
            'user', broken);
    end if;
    return null;
end $$;
create trigger rule_one_actor_user_insert after insert on "user"
    referencing new table as new_rows
    for each statement execute function rule_one_actor_user_user();
create trigger rule_one_actor_user_update after update on "user"
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_one_actor_user_user();
create function rule_one_actor_application_application() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, actor from new_rows
            except select id, actor from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from actor where id in (
        SELECT application.actor
        FROM application
        LEFT OUTER JOIN actor AS acting ON acting.id = application.actor
        WHERE application.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN actor AS acting ON acting.id = application.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM "user"
        WHERE "user".actor = application.actor)) AND NOT (EXISTS (SELECT *
        FROM device
        WHERE device.actor = application.actor)), false) AND application.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('one_actor', 'It is necessary that each actor is at most one user, application or device.',
            'application', broken);
    end if;
    return null;
end $$;
create trigger rule_one_actor_application_insert after insert on application
    referencing new table as new_rows
    for each statement execute function rule_one_actor_application_application();
create trigger rule_one_actor_application_update after update on application
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_one_actor_application_application();
create function rule_one_actor_device_device() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, actor from new_rows
            except select id, actor from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from actor where id in (
        SELECT device.actor
        FROM device
        LEFT OUTER JOIN actor AS acting ON acting.id = device.actor
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN actor AS acting ON acting.id = device.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM "user"
        WHERE "user".actor = device.actor)) AND NOT (EXISTS (SELECT *
        FROM application
        WHERE application.actor = device.actor)), false) AND device.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('one_actor', 'It is necessary that each actor is at most one user, application or device.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_one_actor_device_insert after insert on device
    referencing new table as new_rows
    for each statement execute function rule_one_actor_device_device();
create trigger rule_one_actor_device_update after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_one_actor_device_device();
create function rule_key_fits_actor_api_key_api_key() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, is_of__actor, role from new_rows
            except select id, is_of__actor, role from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from actor where id in (
        SELECT api_key.is_of__actor
        FROM api_key
        LEFT OUTER JOIN actor AS acting ON acting.id = api_key.is_of__actor
        WHERE api_key.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT api_key.id
        FROM api_key
        LEFT OUTER JOIN actor AS acting ON acting.id = api_key.is_of__actor
        WHERE NOT coalesce((api_key.role = 'user' OR NOT (EXISTS (SELECT *
        FROM "user"
        WHERE "user".actor = api_key.is_of__actor))) AND (api_key.role = 'provisioning' OR NOT (EXISTS (SELECT *
        FROM application
        WHERE application.actor = api_key.is_of__actor))) AND (api_key.role = 'device' OR NOT (EXISTS (SELECT *
        FROM device
        WHERE device.actor = api_key.is_of__actor))), false) AND api_key.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('key_fits_actor', 'It is necessary that each API key that acts for a user is a user''s, each that acts for a device is a device''s, and each that acts for an application is for provisioning.',
            'api_key', broken);
    end if;
    return null;
end $$;
create trigger rule_key_fits_actor_api_key_insert after insert on api_key
    referencing new table as new_rows
    for each statement execute function rule_key_fits_actor_api_key_api_key();
create trigger rule_key_fits_actor_api_key_update after update on api_key
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_key_fits_actor_api_key_api_key();
create function rule_key_fits_actor_user_user() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, actor from new_rows
            except select id, actor from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from actor where id in (
        SELECT "user".actor
        FROM "user"
        LEFT OUTER JOIN actor AS acting ON acting.id = "user".actor
        WHERE "user".id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT "user".id
        FROM "user"
        LEFT OUTER JOIN actor AS acting ON acting.id = "user".actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM api_key
        WHERE api_key.is_of__actor = "user".actor AND api_key.role != 'user')), false) AND "user".id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('key_fits_actor', 'It is necessary that each API key that acts for a user is a user''s, each that acts for a device is a device''s, and each that acts for an application is for provisioning.',
            'user', broken);
    end if;
    return null;
end $$;
create trigger rule_key_fits_actor_user_insert after insert on "user"
    referencing new table as new_rows
    for each statement execute function rule_key_fits_actor_user_user();
create trigger rule_key_fits_actor_user_update after update on "user"
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_key_fits_actor_user_user();
create function rule_key_fits_actor_application_application() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, actor from new_rows
            except select id, actor from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from actor where id in (
        SELECT application.actor
        FROM application
        LEFT OUTER JOIN actor AS acting ON acting.id = application.actor
        WHERE application.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT application.id
        FROM application
        LEFT OUTER JOIN actor AS acting ON acting.id = application.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM api_key
        WHERE api_key.is_of__actor = application.actor AND api_key.role != 'provisioning')), false) AND application.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('key_fits_actor', 'It is necessary that each API key that acts for a user is a user''s, each that acts for a device is a device''s, and each that acts for an application is for provisioning.',
            'application', broken);
    end if;
    return null;
end $$;
create trigger rule_key_fits_actor_application_insert after insert on application
    referencing new table as new_rows
    for each statement execute function rule_key_fits_actor_application_application();
create trigger rule_key_fits_actor_application_update after update on application
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_key_fits_actor_application_application();
create function rule_key_fits_actor_device_device() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare changed bigint[]; broken bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(id) into changed from new_rows;
    else
        select array_agg(id) into changed from (
            select id, actor from new_rows
            except select id, actor from old_rows
        ) as each;
    end if;
    if changed is null then
        return null;
    end if;
    perform rule_isolation();
    perform from actor where id in (
        SELECT device.actor
        FROM device
        LEFT OUTER JOIN actor AS acting ON acting.id = device.actor
        WHERE device.id IN (SELECT unnest(changed) AS unnest_1)
    ) order by id for no key update;
    select array_agg(id order by id) into broken from (
        SELECT device.id
        FROM device
        LEFT OUTER JOIN actor AS acting ON acting.id = device.actor
        WHERE NOT coalesce(NOT (EXISTS (SELECT *
        FROM api_key
        WHERE api_key.is_of__actor = device.actor AND api_key.role != 'device')), false) AND device.id IN (SELECT unnest(changed) AS unnest_1)
    ) as each;
    if broken is not null then
        perform rule_break('key_fits_actor', 'It is necessary that each API key that acts for a user is a user''s, each that acts for a device is a device''s, and each that acts for an application is for provisioning.',
            'device', broken);
    end if;
    return null;
end $$;
create trigger rule_key_fits_actor_device_insert after insert on device
    referencing new table as new_rows
    for each statement execute function rule_key_fits_actor_device_device();
create trigger rule_key_fits_actor_device_update after update on device
    referencing old table as old_rows new table as new_rows
    for each statement execute function rule_key_fits_actor_device_device();
